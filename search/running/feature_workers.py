"""What computes the features of a frozen backbone: this process, or actors all over the cluster.

On a cluster one Ray actor for each node or GPU computes, and nodes that do not share the driver's
disk are sent the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout
from ray.util import ActorPool
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_prep.workers import usable_cores
from search.cluster.node_data import NodeData
from trainables.config import TrainConfig
from trainables.features.files import CHUNK, Features
from trainables.features.store import Compute, FeatureStore, Part

Work = Sequence[tuple[FeatureStore, Part]]
FindWork = Callable[..., Work]
"""Called with the prepared folder and the configurations that are searched."""

# Of a GPU: more than half, so that each actor gets one of its own; the rest is left for trials.
GPU_SHARE = 0.51


@dataclass(frozen=True)
class Means:
    """How features are computed here."""

    compute: Compute
    workers: int
    publish: Callable[[int], None]
    """Called with the number of a part of the work that is complete."""


@contextmanager
def computing(
    find: FindWork,
    data: NodeData,
    configs: Sequence[TrainConfig],
    work: Work,
    places: Sequence[dict[str, Any]],
) -> Iterator[Means]:
    """How features are computed here: in this process, or by actors in several places."""
    if len(places) <= 1:
        yield Means(work[0][0].local(), 1, publish=lambda number: None)
        return
    make = ray.remote(FeatureWorker)
    actors = [make.options(**options).remote(find, data, configs) for options in places]
    numbers = {store.path(part): number for number, (store, part) in enumerate(work)}

    def compute(store: FeatureStore, part: Part, pieces: Sequence[range]) -> Iterator[Features]:
        number = numbers[store.path(part)]
        pool = ActorPool(actors)  # each takes the next piece as soon as it is free
        yield from pool.map(lambda actor, rows: actor.features.remote(number, rows), pieces)

    def publish(number: int) -> None:
        store, part = work[number]
        reference = ray.put(store.open(part))
        ray.get([actor.keep.remote(number, reference) for actor in actors])

    try:
        yield Means(compute, len(actors), publish)
    finally:
        for actor in actors:
            ray.kill(actor)


def worker_options() -> list[dict[str, Any]]:
    """Ray options of the actors to compute with: one for each GPU or, without any, each node."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0)]
    options = []
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        gpus = int(node["Resources"].get("GPU", 0))
        share = {"num_cpus": 0, "scheduling_strategy": place}
        options += [{**share, "num_gpus": GPU_SHARE}] * gpus or [share]
    with_gpu = [option for option in options if "num_gpus" in option]
    return with_gpu or options


class FeatureWorker:
    """Computes on one node or GPU, and keeps a copy where the driver's files cannot be seen."""

    def __init__(self, find: FindWork, data: NodeData, configs: Sequence[TrainConfig]) -> None:
        torch.set_num_threads(usable_cores())
        self.work = find(Path(data.here()), *configs)
        self.compute = self.work[0][0].local()
        self.locks: dict[FeatureStore, FileLock] = {}

    def features(self, number: int, rows: range) -> Features:
        """Of some images, under the transform of one part of the work."""
        store, part = self.work[number]
        return next(self.compute(store, part, [rows]))

    def keep(self, number: int, features: Features) -> None:
        """Write a part that is complete, unless this node sees it already.

        The node's lock is then held until the end: its trials wait for what will be sent.
        """
        store, part = self.work[number]
        if store.open(part) is not None:
            return
        if store not in self.locks:
            try:
                self.locks[store] = store.lock()
                self.locks[store].acquire(timeout=0)
            except Timeout:  # another worker of this node is at it
                del self.locks[store]
                return
        pieces = (features[first : first + CHUNK] for first in range(0, len(features), CHUNK))
        for _ in store.fill(part, lambda store, part, rows: pieces):
            pass

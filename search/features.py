"""Before and while trials run: the features of a frozen backbone, computed once for all of them.

On one machine the driver computes, in a thread of its own; on a cluster one Ray actor for each
node or GPU does, and nodes that do not share the driver's disk are sent the files. The first trial
starts as soon as the evaluation features and the first view are there; one that is ahead waits.
"""

from __future__ import annotations

import dataclasses
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout
from ray.util import ActorPool
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search import console
from search.knobs import duration
from search.node_data import NodeData
from search.study import Study
from trainables.config import TrainConfig
from trainables.device import resolve, usable_cores
from trainables.feature_files import CHUNK, Features
from trainables.features import Compute, FeatureStore, Part, settle_precision

Work = Sequence[tuple[FeatureStore, Part]]
FindWork = Callable[[Path, TrainConfig], Work]

FIRST = 2  # parts without which no trial gets through its first epoch
NOTICE_PERIOD = 30.0  # seconds between two lines about what goes on beside the search
POLL_SECONDS = 0.2
PATIENCE = 30.0  # seconds for the thread to put down its work
# Of a GPU: more than half, so that each actor gets one of its own; the rest is left for trials.
GPU_SHARE = 0.51


@contextmanager
def shared_features(
    study: Study, root: Path, data: NodeData, stop: Callable[[], bool]
) -> Iterator[Study]:
    """While active, what the study's trials need exists or is being computed.

    Gives the study with the precision that the features have. A task whose module has no
    `feature_work` needs none. `root` is the prepared data on the driver's node, `data` on any.
    `stop` tells that the search is to end. Raises ValueError when the backbone or the disk space
    cannot be had.
    """
    find: FindWork | None = getattr(study.trainables, "feature_work", None)
    if find is None:
        yield study
        return
    study = dataclasses.replace(study, config=settle_precision(study.config))
    work = find(root, study.config)
    places = worker_options()
    one_node = len({place["scheduling_strategy"].node_id for place in places}) <= 1
    if not work or (one_node and not missing(work)):
        yield study
        return
    with computing(find, data, study.config, work, places) as means:
        if missing(work):
            announce(missing(work), study.config, *probe(means.compute, work), means.workers)
        computer = Computer(work, means)
        computer.start()
        try:
            for _ in console.track(computer.first(stop), computer.num_first, "features"):
                pass
            yield study
        finally:
            computer.stop()


def missing(work: Work) -> Work:
    """What is not there yet, or damaged."""
    return [(store, part) for store, part in work if store.open(part) is None]


@dataclass(frozen=True)
class Means:
    """How features are computed here."""

    compute: Compute
    workers: int
    publish: Callable[[int], None]
    """Called with the number of a part of the work that is complete."""


class Computer(threading.Thread):
    """Computes the work in its order, in the background."""

    def __init__(self, work: Work, means: Means) -> None:
        super().__init__(daemon=True, name="features")
        self.work = work
        self.means = means
        self.num_first = sum(len(store.images) for store, _ in missing(work[:FIRST]))
        self.ready = threading.Event()
        self.done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.begun = self.told = time.monotonic()
        self.count = 0
        self.ended = threading.Event()
        self.error: Exception | None = None

    def first(self, stop: Callable[[], bool]) -> Iterator[int]:
        """Yields once for each image passed until trials can start. Raises what went wrong."""
        while not stop():
            try:
                count = self.done.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if count is None:
                break
            yield from range(count)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        """Compute; the thread's whole life."""
        torch.set_num_threads(usable_cores())
        try:
            with ExitStack() as held:
                locks: dict[FeatureStore, FileLock] = {}
                for number, (store, part) in enumerate(self.work):
                    self.one(store, part, locks, held)
                    if self.ended.is_set():
                        return
                    self.means.publish(number)
                    self.tell(number)
        except Exception as error:  # whatever it is, the driver must learn of it
            self.error = error
            if self.ready.is_set() and not self.ended.is_set():
                console.notice(f"features: {error}; trials compute what they still need")
        finally:
            self.done.put(None)

    def one(
        self, store: FeatureStore, part: Part, locks: dict[FeatureStore, FileLock], held: ExitStack
    ) -> None:
        """Compute one part, or wait until another process has done so."""
        told = False
        while store.open(part) is None and not self.ended.is_set():
            if store not in locks:
                lock = store.lock()
                try:
                    held.enter_context(lock.acquire(timeout=POLL_SECONDS))
                except Timeout:
                    if not told:
                        console.notice(f"features: {part.name} is computed by another process")
                    told = True
                    continue
                locks[store] = lock
            for count in store.fill(part, self.means.compute):
                self.count += count
                if not self.ready.is_set():
                    self.done.put(count)
                if self.ended.is_set():
                    return

    def tell(self, number: int) -> None:
        """Let trials start when they can; then, now and then, a line about what is there."""
        if number == FIRST - 1:
            self.ready.set()
            self.done.put(None)
        now = time.monotonic()
        images = sum(len(store.images) for store, _ in missing(self.work[number + 1 :]))
        if number < FIRST or now - self.told < NOTICE_PERIOD or not images or not self.count:
            return
        self.told = now
        rate = self.count / (now - self.begun)
        left = images / rate
        console.notice(
            f"features: {number + 1} of {len(self.work)} files, {rate:.0f} images/s,"
            f" {duration(left)} left"
        )

    def stop(self) -> None:
        """Put the work down; what is done stays."""
        self.ended.set()
        self.join(PATIENCE)


@contextmanager
def computing(
    find: FindWork,
    data: NodeData,
    config: TrainConfig,
    work: Work,
    places: Sequence[dict[str, Any]],
) -> Iterator[Means]:
    """How features are computed here: in this process, or by actors in several places."""
    if len(places) <= 1:
        yield Means(work[0][0].local(), 1, publish=lambda number: None)
        return
    make = ray.remote(FeatureWorker)
    actors = [make.options(**options).remote(find, data, config) for options in places]
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

    def __init__(self, find: FindWork, data: NodeData, config: TrainConfig) -> None:
        torch.set_num_threads(usable_cores())
        self.work = find(Path(data.here()), config)
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


def probe(compute: Compute, work: Work) -> tuple[float, int]:
    """Images a second and features an image, measured on a few."""
    store, part = work[FIRST - 1]
    rows = range(min(len(store.images), CHUNK // 4))
    next(iter(compute(store, part, [rows[: len(rows) // 4 or 1]])))  # loads the network
    begun = time.monotonic()
    features = next(iter(compute(store, part, [rows])))
    return len(rows) / (time.monotonic() - begun), features.shape[1]


def announce(work: Work, config: TrainConfig, rate: float, width: int, workers: int) -> None:
    """Say what is about to be computed. Raises ValueError when it does not fit on the disk."""
    passes = sum(len(store.images) for store, _ in work)
    space = passes * width * 4
    store = work[0][0]
    free = shutil.disk_usage(store.root).free
    views = sum(part.kind == "view" for _, part in work)
    rate *= workers
    console.notice(
        f"features: {len(store.images):,} images x {views} views and {len(work) - views}"
        f" evaluation files = {passes:,} images through {store.config.backbone}"
        f" ({where(config, workers)}, {rate:.0f} images/s): about {duration(passes / rate)},"
        f" {space / 1e9:.2f} GB in {store.root}"
    )
    if space > free:
        raise ValueError(
            f"{store.root} has {free / 1e9:.2f} GB left and the features take {space / 1e9:.2f};"
            " make room, or lower num_views"
        )


def where(config: TrainConfig, workers: int) -> str:
    """What computes."""
    if workers > 1:
        return f"{config.precision}, {workers} Ray workers"
    machine = resolve(config)
    return f"{config.precision} on {machine.device}, {machine.threads} threads"

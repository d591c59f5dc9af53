"""The nodes of a cluster, and how many trials they hold at once."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import ray

from search.study.study import Study

LOOK_PERIOD = 5  # seconds between two looks at which nodes there are, while a search runs
ROUNDING = 1e-9  # of fractions such as 10 x 0.1 GPUs


@dataclass(frozen=True)
class Node:
    """One living node."""

    node_id: str
    ip: str
    resources: dict[str, float]

    def trials(self, wanted: dict[str, float]) -> int:
        """Trials of these resources that fit on it at once; none gets parts of two GPUs."""
        counts = [
            self.resources.get(kind, 0.0) / amount for kind, amount in wanted.items() if amount > 0
        ]
        if 0 < wanted.get("GPU", 0) < 1:
            gpus = int(self.resources.get("GPU", 0.0))
            counts.append(gpus * math.floor(1 / wanted["GPU"] + ROUNDING))
        return math.floor(min(counts) + ROUNDING)


@dataclass(frozen=True)
class Cluster:
    """What a search is connected to."""

    local: bool
    """A private cluster of this process, ended with it."""
    nodes: tuple[Node, ...]
    dashboard: str = ""
    """Address of Ray's dashboard, HOST:PORT; empty where there is none."""

    @property
    def resources(self) -> dict[str, float]:
        """The sum over the nodes."""
        kinds = {kind for node in self.nodes for kind in node.resources}
        return {kind: sum(node.resources.get(kind, 0.0) for node in self.nodes) for kind in kinds}

    def trials(self, wanted: dict[str, float]) -> int:
        """Trials of these resources that run at once."""
        return sum(node.trials(wanted) for node in self.nodes)


def living_nodes() -> tuple[Node, ...]:
    """The nodes that are alive now, the driver's first."""
    here = ray.get_runtime_context().get_node_id()
    nodes = [
        Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(nodes, key=lambda node: (node.node_id != here, node.ip, node.node_id)))


def trial_slots(wanted: dict[str, float]) -> Callable[[], int]:
    """Tells how many trials of these resources the nodes of the moment hold."""

    @functools.lru_cache(maxsize=1)
    def at(period: int) -> int:
        return Cluster(False, living_nodes()).trials(wanted)

    return lambda: at(int(time.monotonic() // LOOK_PERIOD))


def trial_resources(study: Study, cluster: Cluster) -> dict[str, float]:
    """CPUs and GPUs of one trial. Raises ValueError when no node could ever run one."""
    there = cluster.resources
    gpus = study.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if there.get("GPU", 0) >= 1 else 0.0
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"a trial asks for {gpus:g} GPUs: use a whole number, or a fraction below 1"
        )
    wanted = {"CPU": study.cpus_per_trial, "GPU": gpus}
    for kind, amount in wanted.items():
        largest = max((node.resources.get(kind, 0.0) for node in cluster.nodes), default=0.0)
        if amount > largest:
            place = (
                "the Ray cluster has" if len(cluster.nodes) == 1 else "no Ray node has more than"
            )
            raise ValueError(
                f"a trial asks for {amount:g} {kind}s but {place} {largest:g};"
                f" lower --{kind.lower()}s-per-trial"
            )
    if cluster.trials(wanted) == 0:
        raise ValueError(
            f"no Ray node has both {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs for a trial;"
            " lower --cpus-per-trial or --gpus-per-trial"
        )
    return wanted

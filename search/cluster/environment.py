"""Where a search runs: the cluster looked over, with storage, data and each trial's resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import PlacementGroupFactory

from data_prep.prepared import PreparedData
from search import console
from search.cluster.node_data import NodeData, serve
from search.cluster.preflight import blocking, examine, line
from search.cluster.resources import Cluster, trial_resources
from search.cluster.storage import Storage, search_storage
from search.cluster.trial_cost import packed_gpus
from search.study.study import Study


@dataclass(frozen=True)
class Place:
    """Where a search runs, found good."""

    resources: dict[str, float]
    """CPUs and GPUs of one trial."""
    storage: Storage
    data: NodeData
    server: Any
    """Keeps the data server alive; None where all nodes are this machine."""


def take_place(
    study: Study,
    data: PreparedData,
    search_dir: Path,
    storage: str | None,
    cluster: Cluster,
    pack_gpus: bool,
) -> Place:
    """Look the cluster over and get ready to run on it.

    Raises ValueError with all that would make the search fail; prints what is worth a look.
    """
    resources = trial_resources(study, cluster)
    place = search_storage(storage, search_dir, study.task)
    if cluster.dashboard:
        console.notice(f"Ray dashboard: http://{cluster.dashboard}")
    findings = examine(study, data, place, cluster, resources)
    for finding in findings:
        if finding.level == "warning" or (finding.level == "ok" and not cluster.local):
            console.notice(line(finding))
    reason = blocking(findings)
    if reason:
        raise ValueError(reason)
    server = None if cluster.local else serve(data.root)
    node_data = NodeData(str(data.root.resolve()), data.fingerprint)
    if pack_gpus and resources["GPU"] == 1:
        resources = resources | {"GPU": packed_gpus(study, node_data, resources)}
    return Place(resources, place, node_data, server)


def trial_request(resources: dict[str, float]) -> Callable[[dict[str, Any]], PlacementGroupFactory]:
    """What Ray reserves for a trial: a whole GPU where its part was too small."""

    def request(config: dict[str, Any]) -> PlacementGroupFactory:
        gpus = 1.0 if config.get("_alone") else resources["GPU"]
        return PlacementGroupFactory([{**resources, "GPU": gpus}])

    return request

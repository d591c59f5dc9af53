"""`resnet-tune check`: all that is examined before a search, one batch of it, and a forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.filesize import decimal

from data_prep.prepared import PreparedData
from search import console
from search.cluster.connection import connected
from search.cluster.node_data import NodeData, serve
from search.cluster.preflight import Finding, blocking, examine, line
from search.cluster.resources import Cluster, trial_resources
from search.cluster.storage import search_storage
from search.cluster.trial_cost import Measured, measure_on_cluster, unseen_gpu
from search.study.study import Study

Forecast = Callable[[Study, Path, NodeData], list[Finding]]


def check(
    study: Study,
    data: PreparedData,
    search_dir: Path,
    address: str | None,
    storage: str | None,
    forecast_features: Forecast,
) -> int:
    """Print every finding on a line; 1 if one of them would stop the search, else 0."""
    with connected(address) as cluster:
        resources = trial_resources(study, cluster)
        place = search_storage(storage, search_dir, study.task)
        findings = examine(study, data, place, cluster, resources)
        for finding in findings:
            console.say(line(finding))
        if blocking(findings):
            return 1
        tried = try_out(study, data, cluster, resources, forecast_features)
        for finding in tried:
            console.say(line(finding))
        return 1 if blocking(tried) else 0


def try_out(
    study: Study,
    data: PreparedData,
    cluster: Cluster,
    resources: dict[str, float],
    forecast_features: Forecast,
) -> list[Finding]:
    """One batch of the baseline and the extremes, and what follows for the whole search.

    Features first, of which that batch computes some.
    """
    if not hasattr(study.trainables, "load_data"):
        return [Finding("ok", f"one batch: {study.task} has no load_data, not tried")]
    server = None if cluster.local else serve(data.root)
    node_data = NodeData(str(data.root.resolve()), data.fingerprint)
    findings = forecast_features(study, data.root, node_data)
    results = measure_on_cluster(study, node_data, resources)
    del server
    findings += [batch_finding(name, result) for name, result in results.items()]
    if isinstance(results["baseline"], Measured):
        findings += unseen_gpu(study, resources, results["baseline"])
    good = [result for result in results.values() if isinstance(result, Measured)]
    if len(good) == len(results):
        findings.append(forecast(study, cluster, resources, good))
    return findings


def batch_finding(name: str, result: Measured | str) -> Finding:
    """How one configuration did. The baseline must work; an extreme may be a failed trial."""
    if isinstance(result, str):
        return Finding("error" if name == "baseline" else "warning", f"one batch, {name}: {result}")
    return Finding(
        "ok",
        f"one batch, {name}: about {seconds(result.epoch_seconds)} an epoch on {result.device},"
        f" {decimal(int(result.memory))} of memory, {decimal(int(result.checkpoint))} a checkpoint",
    )


def forecast(
    study: Study, cluster: Cluster, resources: dict[str, float], measured: Sequence[Measured]
) -> Finding:
    """Hours, GPU-hours and storage, from the mean epoch of the three configurations."""
    at_once = min(cluster.trials(resources), study.num_samples)
    epochs = expected_epochs(study)
    epoch = sum(result.epoch_seconds for result in measured) / len(measured)
    wall = max(epochs / at_once, study.num_epochs) * epoch
    gpu_hours = epochs * epoch * resources["GPU"] / 3600
    kept = (study.num_samples if study.scheduler == "promoting" else at_once) + 1
    space = kept * max(result.checkpoint for result in measured)
    return Finding(
        "ok",
        f"forecast: {at_once} trials at once, about {epochs:.0f} epochs, {seconds(wall)},"
        f" {gpu_hours:.2g} GPU-hours, at most {decimal(int(space))} of checkpoints",
    )


def expected_epochs(study: Study) -> float:
    """Epochs of all trials together, if of each rung one in `reduction_factor` goes on.

    Besides the baseline, presets and audited trials, which run to their last epoch.
    """
    given = min(study.num_samples, 1 + len(study.points) * study.finish_presets)
    whole = given + study.audit_share * (study.num_samples - given)
    levels = [0, *study.rungs, study.num_epochs]
    steps = [after - before for before, after in zip(levels, levels[1:], strict=False)]
    rest = study.num_samples - whole
    halved = sum(step * rest / study.reduction_factor**i for i, step in enumerate(steps))
    return float(whole * study.num_epochs + halved)


def seconds(count: float) -> str:
    """A duration in a unit that people read."""
    if count < 120:
        return f"{count:.2g} s"
    return f"{count / 60:.0f} min" if count < 7200 else f"{count / 3600:.1f} h"

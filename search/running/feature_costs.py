"""What the features of a frozen backbone will cost: measured on a few images of each network."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from search.cluster.node_data import NodeData
from search.cluster.preflight import Finding
from search.running.feature_workers import FindWork, Means, Work, computing, worker_options
from search.study.feature_choices import feature_configs
from search.study.study import Study
from search.text import duration
from trainables.config import TrainConfig
from trainables.device import resolve
from trainables.features.files import CHUNK
from trainables.features.source import settle_precision
from trainables.features.store import Compute, FeatureStore, Network, Part


def forecast_features(study: Study, root: Path, data: NodeData) -> list[Finding]:
    """What a search would compute before and beside its trials, and what it keeps of that.

    `root` is the prepared data on the driver's node, `data` on any.
    """
    find: FindWork | None = getattr(study.trainables, "feature_work", None)
    if find is None:
        return []
    study = dataclasses.replace(study, config=settle_precision(study.config))
    configs = feature_configs(study)
    try:
        work, lines = find(root, *configs), notes(study, root)
        if missing(work):
            with computing(find, data, configs, work, worker_options()) as means:
                lines += costs(missing(work), study.config, means)
    except ValueError as error:
        return [Finding("error", f"features: {error}")]
    return [Finding("ok", line) for line in lines or ["features: none are missing"]]


def notes(study: Study, root: Path) -> list[str]:
    """What the study's trainables say of what they keep."""
    told: Callable[..., list[str]] | None = getattr(study.trainables, "feature_notes", None)
    return told(root, *feature_configs(study)) if told else []


def missing(work: Work) -> Work:
    """What is not there yet, or damaged."""
    return [(store, part) for store, part in work if store.open(part) is None]


def by_network(work: Work) -> list[Work]:
    """The work of each network, in the order in which they are met."""
    found: dict[Network, list[tuple[FeatureStore, Part]]] = {}
    for store, part in work:
        found.setdefault(store.network, []).append((store, part))
    return list(found.values())


def probe(compute: Compute, store: FeatureStore, part: Part) -> tuple[float, int]:
    """Images a second and features an image, measured on a few."""
    rows = range(min(len(store.images), CHUNK // 4))
    next(iter(compute(store, part, [rows[: len(rows) // 4 or 1]])))  # loads the network
    begun = time.monotonic()
    features = next(iter(compute(store, part, [rows])))
    return len(rows) / (time.monotonic() - begun), features.shape[1]


def costs(work: Work, config: TrainConfig, means: Means) -> list[str]:
    """A line about each network. Raises ValueError when it all does not fit on the disk."""
    if not work:
        return []
    root = work[0][0].root
    lines, seconds, space = [], 0.0, 0
    for part_of_it in by_network(work):
        line, its_seconds, its_space = costs_of_network(part_of_it, config, means)
        lines.append(line)
        seconds, space = seconds + its_seconds, space + its_space
    if len(lines) > 1:
        lines.append(f"features: in all about {duration(seconds)}, {space / 1e9:.2f} GB")
    free = shutil.disk_usage(root).free
    if space > free:
        raise ValueError(
            f"{root} has {free / 1e9:.2f} GB left and the features take {space / 1e9:.2f};"
            " make room, or lower num_views"
        )
    return lines


def costs_of_network(work: Work, config: TrainConfig, means: Means) -> tuple[str, float, int]:
    """The line about one network; the seconds and the bytes that it will take."""
    store, part = work[min(1, len(work) - 1)]
    rate, width = probe(means.compute, store, part)
    rate *= means.workers
    passes = sum(len(store.images) for store, _ in work)
    space = passes * width * 4
    views = sum(part.kind == "view" for _, part in work)
    line = (
        f"features: {len(store.images):,} images x {views} views and {len(work) - views}"
        f" evaluation files = {passes:,} images through {store.described}"
        f" ({where(config, means.workers)}, {rate:.0f} images/s):"
        f" about {duration(passes / rate)}, {space / 1e9:.2f} GB in {store.root}"
    )
    return line, passes / rate, space


def where(config: TrainConfig, workers: int) -> str:
    """What computes."""
    if workers > 1:
        return f"{config.precision}, {workers} Ray workers"
    machine = resolve(config)
    return f"{config.precision} on {machine.device}, {machine.threads} threads"

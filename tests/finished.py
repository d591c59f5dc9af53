"""Finished searches of real images without Ray: trials trained in this process, then retrained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data_prep.digests import digest
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from search.finishing.confirm import list_points
from search.records.folder import CONFIRM
from search.records.ledger import LEDGER, METRICS, Ledger, TrialRecord
from search.records.manifest import describe_search, read_manifest, write_manifest
from search.records.outcomes import Outcomes, predictions_path, read_outcomes, write_outcomes
from search.records.runs import Plan, runs_of
from search.records.search import Search, load
from search.study.loading import load_study
from search.study.space import describe_space
from search.study.study import Study
from trainables.config import TrainConfig
from trainables.loop import describe, fit
from trainables.outcomes import OUTCOMES_FILE, CountingEpoch
from trainables.reporting import look_again

Metric = Literal["valid_acc", "valid_loss"]
# Eight channels: oneDNN, as torch 2.x has it, corrupts the heap with four on one thread under AVX2.
QUICK: dict[str, Any] = {"num_epochs": 2, "batch_size": 128, "width": 8}


def digits_search(
    above: Path, changes: Sequence[Mapping[str, Any]] = ({},), metric: Metric = "valid_acc"
) -> Path:
    """`results/digits/one` below the folder, of the digits prepared in its `data`.

    One trial of two epochs for each of the changes to a small configuration.
    """
    study = load_study("digits")
    config = dataclasses.replace(study.config, **QUICK)
    study = dataclasses.replace(study, config=config, metric=metric)
    prepare(study.layout, None, above / "data" / "digits")
    search_dir = above / "results" / "digits" / "one"
    search_dir.mkdir(parents=True)
    describe_here(study, above / "data" / "digits", search_dir, {})
    ledger = Ledger(search_dir / LEDGER)
    ledger.append("session", num_samples=len(changes), pid=1)
    for number, change in enumerate(changes):
        config = dataclasses.replace(study.config, **change)
        run_trial(ledger, f"t{number:04d}", study, above / "data" / "digits", config)
    close(ledger)
    return search_dir


def describe_here(study: Study, root: Path, search_dir: Path, overrides: dict[str, Any]) -> None:
    """Write search.json of a search that has ended."""
    data, space = load_prepared(root), describe_space(study.space)
    info = describe_search(
        study, data, search_dir, space=space, overrides=overrides, command=[], storage=None
    )
    write_manifest(search_dir, info.model_copy(update={"status": "finished"}))


def close(ledger: Ledger) -> None:
    """Note in search.json how many lines there are, as a session does that ends."""
    ledger.close()
    folder = ledger.path.parent
    write_manifest(folder, read_manifest(folder).model_copy(update={"events": ledger.count}))


def run_trial(
    ledger: Ledger,
    trial_id: str,
    study: Study,
    root: Path,
    config: TrainConfig,
    origin: str = "sampler",
) -> None:
    """Train a trial on one thread, as a search's worker does it, and write it down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = study.trainables.load_data(root, config)
        state = study.trainables.start(config, data)
        ledger.append("start", trial_id, config=dataclasses.asdict(config), origin=origin)
        counting = CountingEpoch(config, study.metric)
        for row in fit(state, data.train, data.valid, config, study.metric):
            metrics = {key: row[key] for key in ("epoch", *METRICS) if key in row}
            ledger.append("report", trial_id, metrics=metrics, facts=describe(state))
            if counting.offer(row, state.outcomes):
                look_again(counting, state, data.valid, config)
        keep_outcomes_of(ledger.path.parent, trial_id, counting)
        ledger.append("end", trial_id, status="completed", error=None)
    finally:
        torch.set_num_threads(before)


def keep_outcomes_of(search_dir: Path, trial_id: str, counting: CountingEpoch) -> None:
    """Write what a trial made of each image, and on a fold its logits, as a search keeps them."""
    assert counting.outcomes is not None
    losses = tuple(counting.outcomes.losses.tolist())
    correct = tuple(counting.outcomes.correct.int().tolist())
    found = Outcomes(trial_id, counting.epoch, losses, correct)
    if counting.outcomes.logits is not None:
        path = predictions_path(search_dir, trial_id)
        path.parent.mkdir(exist_ok=True)
        counting.save(path.parent)
        with np.load(path.parent / OUTCOMES_FILE) as saved:
            kept = {
                n: saved[n] for n in saved if n == "labels" or n.startswith(("logits", "look_"))
            }
        np.savez_compressed(path, **kept)
        (path.parent / OUTCOMES_FILE).unlink()
        found = dataclasses.replace(found, predictions=digest(path))
    write_outcomes(search_dir, found)


def confirm_here(search_dir: Path, study: Study, plan: Plan) -> Search:
    """Run a plan in this process, as `confirm` runs it on Ray; the confirmed search."""
    found, folder = load(search_dir), search_dir / CONFIRM
    folder.mkdir()
    metric: Metric = "valid_acc" if found.metric == "valid_acc" else "valid_loss"
    again = dataclasses.replace(study, metric=metric, space={})
    said = {"trials": list(plan.trials), "folds": plan.folds, "seeds": plan.seeds}
    root = Path(found.info.data.root)
    describe_here(again, root, folder, {"confirm": said})
    ledger = Ledger(folder / LEDGER)
    ledger.append("session", num_samples=len(plan.trials) * len(plan.runs), pid=1)
    for point in list_points(found, study, plan):
        if point.group in dropped(found, plan, ledger.records, folder, point.stage):
            continue
        config = dataclasses.replace(study.config, **point.config)
        run_trial(ledger, f"t{len(ledger.records):04d}", again, root, config, point.name)
    close(ledger)
    return load(search_dir)


def dropped(
    found: Search, plan: Plan, records: Mapping[str, TrialRecord], folder: Path, stage: int
) -> set[str]:
    """The configurations that are given up before a stage."""
    outcomes = read_outcomes(folder, [])
    return {*runs_of(plan, found.metric, found.mode, records, outcomes).dropped(stage)}

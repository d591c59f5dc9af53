"""Finished searches of real images without Ray: trials trained in this process, then retrained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data_prep.prepare import prepare
from search.records.ledger import LEDGER, METRICS, Ledger
from search.records.manifest import describe_search, write_manifest
from search.records.outcomes import Outcomes, write_outcomes
from search.study.loading import load_study
from search.study.space import describe_space
from search.study.study import Study
from trainables.loop import describe, fit
from trainables.outcomes import CountingEpoch

QUICK: dict[str, Any] = {"num_epochs": 2, "batch_size": 128, "width": 4}


def digits_search(above: Path, changes: Sequence[Mapping[str, Any]] = ({},)) -> Path:
    """`results/digits/one` below the folder, of the digits prepared in its `data`.

    One trial of two epochs for each of the changes to a small configuration.
    """
    study = load_study("digits")
    study = dataclasses.replace(study, config=dataclasses.replace(study.config, **QUICK))
    data = prepare(study.layout, None, above / "data" / "digits")
    search_dir = above / "results" / "digits" / "one"
    search_dir.mkdir(parents=True)
    space = describe_space(study.space)
    info = describe_search(
        study, data, search_dir, space=space, overrides={}, command=[], storage=None
    )
    write_manifest(search_dir, info.model_copy(update={"status": "finished"}))
    ledger = Ledger(search_dir / LEDGER)
    ledger.append("session", num_samples=len(changes), pid=1)
    for number, change in enumerate(changes):
        record_trial(ledger, f"t{number:04d}", study, data.root, change)
    ledger.close()
    return search_dir


def record_trial(
    ledger: Ledger, trial_id: str, study: Study, root: Path, changes: Mapping[str, Any]
) -> None:
    """Train a trial on one thread, as a search's worker does it, and write it down."""
    config = dataclasses.replace(study.config, **changes)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = study.trainables.load_data(root, config)
        state = study.trainables.start(config, data)
        ledger.append("start", trial_id, config=dataclasses.asdict(config), origin="sampler")
        counting = CountingEpoch(config, study.metric)
        for row in fit(state, data.train, data.valid, config, study.metric):
            metrics = {key: row[key] for key in ("epoch", *METRICS) if key in row}
            ledger.append("report", trial_id, metrics=metrics, facts=describe(state))
            counting.offer(row, state.outcomes)
        assert counting.outcomes is not None
        losses = tuple(counting.outcomes.losses.tolist())
        correct = tuple(counting.outcomes.correct.int().tolist())
        write_outcomes(ledger.path.parent, Outcomes(trial_id, counting.epoch, losses, correct))
        ledger.append("end", trial_id, status="completed", error=None)
    finally:
        torch.set_num_threads(before)

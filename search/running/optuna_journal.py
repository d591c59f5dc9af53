"""A search's trials as Optuna is told them, for the journal that optuna-dashboard opens.

Sampling does not read this journal: it is derived from the ledger, and may be deleted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search.records.statuses import BAD, UNFINISHED
from search.samplers.trial import Mode, Record, SearchTrial, trial_of
from search.study.space import Space, active, distribution, inside


def frozen_trial(record: Record, space: Space, metric: str) -> FrozenTrial:
    """The Optuna trial that says what happened to an ended trial.

    completed: COMPLETE with the last epoch's value. stopped: PRUNED with its values at their
    epochs. failed, diverged: PRUNED without values, which Optuna's TPE ranks below every value (it
    ignores FAIL). The whole truth is in the user attributes. Raises ValueError if unfinished.
    """
    if record.status in UNFINISHED:
        raise ValueError(f"trial {record.trial_id} is {record.status}: it has not ended yet")
    trial = trial_of(record, metric)
    bad = record.status in BAD or not trial.values
    complete = record.status == "completed" and not bad
    ranges = _ranges(space, trial)
    return optuna.create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=trial.values[trial.epoch] if complete else None,
        params={name: trial.config[name] for name in ranges},
        distributions=ranges,
        intermediate_values={} if bad else dict(sorted(trial.values.items())),
        user_attrs={
            "trial_id": record.trial_id,
            "status": record.status,
            "reason": record.error or record.status,
            "epochs": max(record.history, default=0),
            "origin": record.origin,
        },
    )


def _ranges(space: Space, trial: SearchTrial) -> dict[str, BaseDistribution]:
    """The trial's knobs that Optuna can show: a number outside its range gets a wider range."""
    ranges: dict[str, BaseDistribution] = {}
    for name in active(space, trial.config):
        knob = distribution(space, name)
        wider = knob if inside(knob, trial.config[name]) else _widened(knob, trial.config[name])
        if wider is not None:
            ranges[name] = wider
    return ranges


def _widened(knob: BaseDistribution, value: object) -> BaseDistribution | None:
    """A range that also holds `value`; None for a category or where no such range exists."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(knob, CategoricalDistribution) or not number:
        return None
    assert isinstance(knob, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    if not math.isfinite(value):
        return None
    low, high = min(knob.low, value), max(knob.high, value)
    log = knob.log and low > 0
    if isinstance(knob, IntDistribution) and float(value).is_integer():
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def write_journal(
    path: Path, name: str, records: Iterable[Record], space: Space, metric: str, mode: Mode
) -> None:
    """Write the journal anew with all ended trials, aside and then renamed."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    study = open_journal(aside, name, mode)
    for record in records:
        if record.status not in UNFINISHED:
            study.add_trial(frozen_trial(record, space, metric))
    os.replace(aside, path)


def open_journal(path: Path, name: str, mode: Mode) -> optuna.Study:
    """The study of a journal file, made if it does not exist; `add_trial` appends to it."""
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=name,
        direction="maximize" if mode == "max" else "minimize",
        load_if_exists=True,
    )

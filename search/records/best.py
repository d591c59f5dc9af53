"""The best trial: one order of the trials, with its tie rule, for all that names or keeps one.

A trial counts by its value at the epoch of `TrialRecord.best_epoch`. Equals go by the lower
valid_loss there, then by the lower trial number, so that the order does not depend on which trial
ended first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.statuses import BAD

if TYPE_CHECKING:
    from search.records.confirmed import Confirmed

BASELINE = "t0000"


@dataclass(frozen=True)
class Scored:
    """A trial with a finite value of the metric: its `value` at its best `epoch`."""

    record: TrialRecord
    epoch: int
    value: float


def score(record: TrialRecord | None, metric: str, mode: str) -> Scored | None:
    """The trial with its best value; None without a finite one."""
    epoch = None if record is None else record.best_epoch(metric, mode)
    if record is None or epoch is None:
        return None
    return Scored(record, epoch, record.history[epoch][metric])


def rank(trial: Scored, mode: str) -> tuple[float, float, int]:
    """What trials are ordered by, the lowest first."""
    loss = trial.record.history[trial.epoch].get("valid_loss", math.nan)
    loss = loss if math.isfinite(loss) else math.inf
    return (-oriented(trial.value, mode), loss, trial.record.number)


def ranking(records: Iterable[TrialRecord], metric: str, mode: str) -> list[Scored]:
    """The trials with a finite value, best first."""
    found = (score(record, metric, mode) for record in records)
    return sorted((s for s in found if s is not None), key=lambda trial: rank(trial, mode))


def choose_best(
    records: Mapping[str, TrialRecord],
    metric: str,
    mode: str,
    confirmed: Confirmed | None = None,
) -> dict[str, Any] | None:
    """The trial to retrain, in the form of best.json; None while no sound trial has a finite value.

    What was chosen among those that were run again, if any were. Else the best of those that ran
    their full budget, if any did; never one that failed or diverged.
    """
    if confirmed is not None:
        row = confirmed.row
        record = records[row.trial_id]
        chosen = f"{confirmed.rule} (among {len(confirmed.rows)} confirmed of {len(records)})"
        found = described(record, row.epoch, metric, mode, chosen)
        return {**found, "confirmed": confirmed.described(mode)}
    sound = (record for record in records.values() if record.status not in BAD)
    scored = ranking(sound, metric, mode)
    completed = [trial for trial in scored if trial.record.status == "completed"]
    pool = completed or scored
    if not pool:
        return None
    kind = "completed" if completed else "unfinished"
    word = "highest" if mode == "max" else "lowest"
    chosen = (
        f"{word} {metric} at its counting epoch among {len(pool)} {kind} trials of {len(records)}"
    )
    return described(pool[0].record, pool[0].epoch, metric, mode, chosen)


def described(
    record: TrialRecord, epoch: int, metric: str, mode: str, chosen: str
) -> dict[str, Any]:
    """A trial with an epoch to train to, in the form of best.json."""
    return {
        "trial_id": record.trial_id,
        "config": record.config,
        "metrics": record.history[epoch],
        "epoch": epoch,
        "metric": metric,
        "mode": mode,
        "chosen": chosen,
    }

"""The best trial: one order of the trials, with its tie rule, for all that names or keeps one.

A trial counts by its value at its best epoch. Equals go by the lower valid_loss at that epoch, then
by the lower trial number, so that the order does not depend on which trial ended first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.statuses import BAD

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
    confirmed: Mapping[str, float] | None = None,
) -> dict[str, Any] | None:
    """The trial to retrain, in the form of best.json; None while no sound trial has a finite value.

    The best of those that ran their full budget, if any did; never one that failed or diverged.
    `confirmed` maps trials that were run again to the mean of those runs, which stands instead of
    the search's own, flattered value: the choice is then among these alone.
    """
    sound = (record for record in records.values() if record.status not in BAD)
    scored = ranking(sound, metric, mode)
    completed = [trial for trial in scored if trial.record.status == "completed"]
    again = [trial for trial in scored if trial.record.trial_id in (confirmed or {})]
    pool = again or completed or scored
    if not pool:
        return None
    means = confirmed if confirmed and again else {}
    kind = "confirmed" if again else "completed" if completed else "unfinished"
    value = {t.record.trial_id: means.get(t.record.trial_id, t.value) for t in pool}
    best = min(pool, key=lambda t: (-oriented(value[t.record.trial_id], mode), *rank(t, mode)[1:]))
    word = "highest" if mode == "max" else "lowest"
    what = f"mean {metric}" if again else f"{metric} at its best epoch"
    return {
        "trial_id": best.record.trial_id,
        "config": best.record.config,
        "metrics": best.record.history[best.epoch],
        "epoch": best.epoch,
        "metric": metric,
        "mode": mode,
        "chosen": f"{word} {what} among {len(pool)} {kind} trials of {len(records)}",
    }

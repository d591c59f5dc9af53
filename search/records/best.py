"""The best trial: how it is chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from search.records.ledger import TrialRecord

BASELINE = "t0000"


def with_best_epoch(
    records: Iterable[TrialRecord], metric: str, mode: str
) -> list[tuple[TrialRecord, int]]:
    """The trials that have a finite value of the metric, with the epoch of the best one."""
    pairs = ((record, record.best_epoch(metric, mode)) for record in records)
    return [(record, epoch) for record, epoch in pairs if epoch is not None]


def choose_best(records: dict[str, TrialRecord], metric: str, mode: str) -> dict[str, Any] | None:
    """The trial to retrain: best metric among those that ran their full budget, if any did."""
    finished = [record for record in records.values() if record.status == "completed"]
    completed = with_best_epoch(finished, metric, mode)
    pool = completed or with_best_epoch(records.values(), metric, mode)
    if not pool:
        return None
    sign = 1 if mode == "max" else -1
    record, epoch = max(pool, key=lambda pair: sign * pair[0].history[pair[1]][metric])
    kind = "completed" if completed else "unfinished"
    word = "highest" if mode == "max" else "lowest"
    return {
        "trial_id": record.trial_id,
        "config": record.config,
        "metrics": record.history[epoch],
        "epoch": epoch,
        "metric": metric,
        "mode": mode,
        "chosen": f"{word} {metric} at its best epoch among {len(pool)} {kind} trials"
        f" of {len(records)}",
    }

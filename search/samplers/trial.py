"""What the search knows of one trial, as the searcher, the rungs and the samplers see it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from search.records.statuses import Status

Mode = Literal["min", "max"]


class Record(Protocol):
    """A trial of an earlier session: the ledger's TrialRecord, and whatever looks like it."""

    trial_id: str
    config: dict[str, Any]
    origin: str
    history: dict[int, dict[str, float]]
    status: Status
    error: str | None
    checkpoint: str | None
    audited: bool


@dataclass(eq=False)
class SearchTrial:
    """One trial, known by its identity.

    `values` maps an epoch (from 1) to the metric, finite values only.
    """

    trial_id: str
    config: dict[str, Any]
    origin: str
    values: dict[int, float] = field(default_factory=dict)
    status: Status = "running"
    checkpoint: str | None = None
    sampler_attrs: dict[str, Any] = field(default_factory=dict)
    audited: bool = False
    """Drawn to run to its last epoch whatever its rank, to tell what early stopping costs."""

    @property
    def epoch(self) -> int:
        """The last epoch with a value, 0 before the first."""
        return max(self.values, default=0)

    def value_at(self, level: int) -> float | None:
        """The metric at the first reported epoch of `level` or later."""
        if level in self.values:
            return self.values[level]
        reached = [epoch for epoch in self.values if epoch >= level]
        return self.values[min(reached)] if reached else None


def trial_of(record: Record, metric: str) -> SearchTrial:
    """What a record of the ledger says about the study's metric.

    `config` is the record's own, which may hold more knobs than are searched now.
    """
    values = {
        epoch: metrics[metric]
        for epoch, metrics in record.history.items()
        if math.isfinite(metrics.get(metric, math.nan))
    }
    return SearchTrial(
        record.trial_id,
        dict(record.config),
        record.origin,
        values,
        record.status,
        record.checkpoint,
        audited=record.audited,
    )

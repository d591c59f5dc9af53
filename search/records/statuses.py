"""What can become of a trial: the statuses, the words that tables show, and when each applies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from search.records.ledger import TrialRecord

Status = Literal["running", "paused", "completed", "stopped", "failed", "diverged", "lost"]
"""As the ledger keeps it."""
Shown = Literal["completed", "stopped", "running", "pending", "lost", "failed", "diverged"]
"""As tables and figures show it, in their order."""

SHOWN: tuple[Shown, ...] = get_args(Shown)
FINISHED: frozenset[str] = frozenset({"completed", "stopped", "failed", "diverged"})
BAD = ("failed", "diverged")  # told to samplers as worse than every value
UNFINISHED = ("running", "paused", "lost")


def end_status(record: TrialRecord, num_epochs: int, metric: str) -> Status:
    """Why a trial without an error came to its end."""
    if any(is_diverged(metrics, metric) for metrics in record.history.values()):
        return "diverged"
    return "completed" if record.epochs >= num_epochs else "stopped"


def shown_status(record: TrialRecord, running: bool) -> Shown:
    """A trial without an end is `running` or `pending` under a living driver, else `lost`."""
    if record.status == "running":
        return "running" if running else "lost"
    if record.status == "paused":
        return "pending" if running else "lost"
    return record.status


def is_diverged(metrics: Mapping[str, Any], metric: str) -> bool:
    """Whether the metric or a loss of one report is not finite.

    The losses count as well: the accuracy of a model whose loss is NaN is a plain finite number.
    """
    return any(
        isinstance(value, float) and not math.isfinite(value)
        for name, value in metrics.items()
        if name == metric or name.endswith("_loss")
    )

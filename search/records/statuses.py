"""What can become of a trial: the statuses, and when each applies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.records.ledger import TrialRecord

FINISHED = frozenset({"completed", "stopped", "failed", "diverged"})
BAD = ("failed", "diverged")  # told to samplers as worse than every value
UNFINISHED = ("running", "paused", "lost")


def end_status(record: TrialRecord, num_epochs: int) -> str:
    """Why a trial without an error came to its end."""
    if any(not math.isfinite(v) for m in record.history.values() for v in m.values()):
        return "diverged"
    return "completed" if record.epochs >= num_epochs else "stopped"


def shown_status(record: TrialRecord, running: bool) -> str:
    """A trial without an end is `running` or `pending` under a living driver, else `lost`."""
    if record.status == "running":
        return "running" if running else "lost"
    if record.status == "paused":
        return "pending" if running else "lost"
    return record.status


def is_diverged(result: Mapping[str, Any], metric: str) -> bool:
    """Whether the metric or a loss of one report is not finite.

    The losses count as well: the accuracy of a model whose loss is NaN is a plain finite number.
    """
    return any(
        isinstance(value, float) and not math.isfinite(value)
        for name, value in result.items()
        if name == metric or name.endswith("_loss")
    )

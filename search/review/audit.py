"""What the audited trials say: how well an early look foretold the end, and what stopping cost.

`audit_share` of the sampled trials are drawn before they begin and run to their last epoch whatever
their rank: a fair sample of all, unlike the trials that early stopping let go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.records.best import ranking
from search.records.metric import oriented
from search.records.search import Search

LEAST = 4  # audited trials, for a correlation with an error


@dataclass(frozen=True)
class Audit:
    """Of the first rung, at `epoch`, by `trials` audited trials that ran to their end."""

    trials: int
    epoch: int
    correlation: float
    """Spearman's, of the metric at the rung with that of the last epoch; NaN where all are equal"""
    error: float
    """Standard error of the correlation, sqrt((1 - r^2) / (n - 2))."""
    cost: float
    """By how much the best of those that the rung would have stopped beats all other trials; 0 or
    more, in units of the metric."""


def audit(search: Search) -> Audit | None:
    """The account of the audited trials; None with fewer than LEAST, or without early stopping."""
    drawn = [r.trial_id for r in search.records.values() if r.audited and r.status == "completed"]
    if len(drawn) < LEAST:
        return None
    from search.review.importance import rungs_of  # here: it imports what a table need not wait for

    rungs = rungs_of(search)
    if not rungs:
        return None
    seen, ended = at_epoch(search, rungs[0]), at_epoch(search, search.info.num_epochs)
    whole = [trial_id for trial_id in drawn if trial_id in seen and trial_id in ended]
    if len(whole) < LEAST:
        return None
    pairs = [(seen[trial_id], ended[trial_id]) for trial_id in whole]
    correlation = rank_correlation(pairs)
    spread = max(1 - correlation**2, 0.0)
    error = math.sqrt(spread / (len(pairs) - 2)) if math.isfinite(correlation) else math.nan
    return Audit(len(whole), rungs[0], correlation, error, cost(search, whole, seen))


def at_epoch(search: Search, epoch: int) -> dict[str, float]:
    """The oriented metric of each trial that reported the epoch."""
    return {
        record.trial_id: oriented(record.history[epoch][search.metric], search.mode)
        for record in search.records.values()
        if search.metric in record.history.get(epoch, {})
    }


def rank_correlation(pairs: list[tuple[float, float]]) -> float:
    """Spearman's rho of two columns; NaN where one of them is constant."""
    import pandas as pd  # here, as above

    ranks = pd.DataFrame(pairs).rank()
    if (ranks.nunique() < 2).any():
        return math.nan
    return float(ranks[0].corr(ranks[1]))


def cost(search: Search, whole: list[str], seen: dict[str, float]) -> float:
    """What would have been lost, had the audited trials (`whole`) been stopped like all others."""
    going = int(len(seen) / (search.info.reduction_factor or 1))
    kept = set(sorted(seen, key=seen.__getitem__, reverse=True)[:going])
    stopped = set(whole) - kept
    completed = [r for r in search.records.values() if r.status == "completed"]
    by_score = ranking(completed, search.metric, search.mode)
    lost = next((t.value for t in by_score if t.record.trial_id in stopped), None)
    rest = next((t.value for t in by_score if t.record.trial_id not in stopped), None)
    return 0.0 if lost is None or rest is None else max(oriented(lost - rest, search.mode), 0.0)


def audited(search: Search) -> list[str]:
    """The account in a sentence, or nothing."""
    found = audit(search)
    if found is None:
        return []
    if math.isnan(found.correlation):
        told = "all alike"
    else:
        told = f"rank correlation {found.correlation:.2f} +- {found.error:.2f} with the end"
    price = f"{found.cost:.4f} {search.metric}" if found.cost else "nothing"
    return [
        f"early stopping, by {found.trials} audited trials: at epoch {found.epoch} {told};"
        f" to stop them there would have cost {price}"
    ]

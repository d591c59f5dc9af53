"""The choice among the configurations that were run again, derived from `<search>/confirm/`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from search.records.best import BASELINE, score
from search.records.folder import CONFIRM, SEARCH_JSON
from search.records.ledger import LEDGER, TrialRecord, read_ledger
from search.records.manifest import read_manifest
from search.records.metric import oriented
from search.records.outcomes import read_outcomes
from search.records.paired import Difference
from search.records.runs import Plan, Runs, runs_of

MOST_RUNS = 10_000  # of a configuration; a file that says more is not one of ours
RULE = (
    "the best mean {metric} on {runs}; of those within one paired standard error of it the one that"
    " trains the fewest parameters, then the baseline"
)


@dataclass(frozen=True)
class Row:
    """One configuration; numbers are in units of the metric."""

    trial_id: str
    searched: float
    """What the search had found."""
    mean: float
    error: float
    runs: int
    behind: Difference | None
    """The leader's lead over it; None for the leader itself."""
    epoch: int
    dropped: bool

    def optimism(self, mode: str) -> float:
        """By how much the search flattered it."""
        return float(oriented(self.searched, mode) - oriented(self.mean, mode))


@dataclass(frozen=True)
class Confirmed:
    """What the runs have shown, best first; `chosen` is the configuration to hand over."""

    plan: Plan
    rows: tuple[Row, ...]
    chosen: str
    rule: str
    failed: tuple[str, ...]
    """Configurations of which a run failed or diverged: never chosen."""

    @property
    def row(self) -> Row:
        """Of the chosen one."""
        return next(row for row in self.rows if row.trial_id == self.chosen)

    def described(self, mode: str) -> dict[str, Any]:
        """For best.json."""
        return {
            "runs": str(self.plan),
            "rule": self.rule,
            "configurations": [
                {
                    "trial_id": row.trial_id,
                    "searched": row.searched,
                    "mean": row.mean,
                    "standard_error": row.error,
                    "optimism": row.optimism(mode),
                    "behind_the_leader": row.behind.mean if row.behind else 0.0,
                    "paired_standard_error": row.behind.error if row.behind else 0.0,
                    "runs": row.runs,
                    "dropped": row.dropped,
                    "epoch": row.epoch,
                }
                for row in self.rows
            ],
        }


def confirm(runs: Runs, search: Mapping[str, TrialRecord]) -> Confirmed | None:
    """What the runs have shown of the search's trials; None until all of them have ended."""
    plan, total = runs.plan, len(runs.plan.runs)
    dropped = runs.dropped(total - 1)
    left = [t for t in plan.trials if t not in dropped and t not in runs.failed]
    if not left or not all(runs.done(t, total) for t in left) or not search.keys() >= {*left}:
        return None
    leader = runs.leader(left, total)
    chosen = simplest(runs, [t for t in left if is_near(runs.lead(leader, t, total))])
    counts = {**dict.fromkeys(left, total), **dropped}
    rows = [row_of(runs, search[t], leader, n, n < total) for t, n in counts.items() if t in search]
    rows.sort(key=lambda row: (row.dropped, -oriented(row.mean, runs.mode)))
    rule = RULE.format(metric=runs.metric, runs=plan)
    return Confirmed(plan, tuple(rows), chosen, rule, tuple(sorted(runs.failed)))


def is_near(lead: Difference) -> bool:
    """Whether the leader's lead is no more than its standard error, where that is known."""
    return lead.mean <= 0 or lead.mean <= lead.error < math.inf


def simplest(runs: Runs, near: list[str]) -> str:
    """The one to choose among equals: see RULE."""
    total = len(runs.plan.runs)

    def simplicity(trial_id: str) -> tuple[float, bool, float]:
        facts = runs.records[runs.plan.name(trial_id, runs.plan.runs[0])].facts
        mean = fmean(runs.values(trial_id, total))
        return (facts.get("num_parameters", 0), trial_id != BASELINE, -mean)

    return min(near, key=simplicity)


def row_of(runs: Runs, record: TrialRecord, leader: str, count: int, dropped: bool) -> Row:
    """What `count` runs say of one configuration."""
    own, trial_id = runs.mean(record.trial_id, count), record.trial_id
    searched = score(record, runs.metric, runs.mode)
    assert searched is not None, f"{trial_id} was run again without a value"
    return Row(
        trial_id,
        searched.value,
        oriented(own.mean, runs.mode),
        own.error,
        count,
        None if trial_id == leader else runs.lead(leader, trial_id, count),
        runs.epoch(trial_id, count),
        dropped,
    )


def read_runs(search_dir: Path, metric: str, mode: str, damage: list[str]) -> Runs | None:
    """The runs of a search's confirmation; None where there is none.

    Raises ValueError where its search.json cannot be read.
    """
    folder = search_dir / CONFIRM
    if not (folder / SEARCH_JSON).is_file():
        return None
    info = read_manifest(folder)
    try:
        said = info.overrides["confirm"]
        plan = Plan(tuple(map(str, said["trials"])), int(said["folds"]), int(said["seeds"]))
        if min(plan.folds, plan.seeds) < 1 or plan.folds * plan.seeds > MOST_RUNS:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        damage.append(f"{folder / SEARCH_JSON}: overrides/confirm is no plan of a confirmation")
        return None
    records = read_ledger(folder / LEDGER, damage, least=info.events)
    return runs_of(plan, metric, mode, records, read_outcomes(folder, damage))

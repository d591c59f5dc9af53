"""Runs of the best configurations on folds or under seeds: what is run, and what the runs say.

A run is one fold under one seed; each labelled image is `valid` in one fold. The runs of different
configurations are alike, so these are compared run by run and image by image.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import Any

from search.records.best import BASELINE
from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.outcomes import Outcomes
from search.records.paired import Difference, mean_and_error, paired
from search.records.statuses import BAD
from trainables.schedule import ends_low

DOUBT = 3.0  # standard errors behind the leader from which on a configuration is given up
FEWEST = 3  # runs without known images whose spread is taken for a standard error


@dataclass(frozen=True)
class Plan:
    """What is run again: `trials` of the search on `folds` folds under `seeds` seeds each."""

    trials: tuple[str, ...]
    folds: int
    """1: the prepared split, under other seeds than the search's."""
    seeds: int
    without: frozenset[int] = frozenset()
    """Folds that are left out, to judge a choice by them."""

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(fold, seed above the trial's own) of each run, in their order."""
        first = 1 if self.folds == 1 else 0
        folds = [fold for fold in range(self.folds) if fold not in self.without]
        return [(f, s) for s, f in product(range(first, first + self.seeds), folds)]

    def name(self, trial_id: str, run: tuple[int, int]) -> str:
        """What a run is called in the ledger."""
        place = f"fold {run[0] + 1} of {self.folds}" if self.folds > 1 else "prepared split"
        return f"{trial_id} {place} seed +{run[1]}"

    def config(self, config: Mapping[str, Any], run: tuple[int, int]) -> dict[str, Any]:
        """The configuration of a run."""
        folds = self.folds if self.folds > 1 else 0
        seed = config.get("seed", 0) + run[1]
        return {**config, "num_folds": folds, "fold": run[0], "seed": seed}

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        if self.folds == 1:
            return f"{seeds} of the prepared split"
        return f"{self.folds} folds" + (f" x {seeds}" if self.seeds > 1 else "")


@dataclass(frozen=True)
class Runs:
    """The runs that have completed, by name, and what they made of each image."""

    plan: Plan
    metric: str
    mode: str
    records: Mapping[str, TrialRecord]
    outcomes: Mapping[str, Outcomes]
    failed: frozenset[str] = frozenset()
    """The configurations of which a run failed or diverged."""

    def on(self, folds: Collection[int]) -> Runs:
        """Those on some folds alone, of the configurations that were run on all."""
        total = len(self.plan.runs)
        trials = [t for t in self.plan.trials if self.done(t, total) and t not in self.failed]
        without = frozenset(range(self.plan.folds)) - frozenset(folds)
        return replace(self, plan=replace(self.plan, trials=tuple(trials), without=without))

    def done(self, trial_id: str, first: int) -> bool:
        """Whether the first so many runs of a configuration have completed."""
        names = (self.plan.name(trial_id, run) for run in self.plan.runs[:first])
        return all(name in self.records for name in names)

    def histories(self, trial_id: str, first: int) -> list[dict[int, dict[str, float]]]:
        """The curve of each of them."""
        names = (self.plan.name(trial_id, run) for run in self.plan.runs[:first])
        return [self.records[name].history for name in names]

    def epoch(self, trial_id: str, first: int) -> int:
        """The epoch to train to: the best of the mean curve, the latest among equals.

        The last one where the learning rate ends low, unless the runs tell that another is better.
        """
        curves = self.histories(trial_id, first)
        common = sorted(set.intersection(*(set(curve) for curve in curves)))
        record = self.records[self.plan.name(trial_id, self.plan.runs[0])]

        def values(epoch: int) -> list[float]:
            return [oriented(curve[epoch][self.metric], self.mode) for curve in curves]

        best = max(common, key=lambda epoch: (fmean(values(epoch)), epoch))
        if ends_low(record.config):
            lead = paired(values(best), values(common[-1]))
            return best if first >= FEWEST and lead.told else common[-1]
        return best

    def values(self, trial_id: str, first: int) -> list[float]:
        """The metric of each of the first runs at the epoch to train to, higher is better."""
        epoch = self.epoch(trial_id, first)
        curves = self.histories(trial_id, first)
        return [oriented(curve[epoch][self.metric], self.mode) for curve in curves]

    def images(self, trial_id: str, first: int) -> list[float] | None:
        """A score for each image, the mean over its runs; None where one is not known."""
        by_fold: dict[int, list[Sequence[float]]] = {}
        for run in self.plan.runs[:first]:
            found = self.outcomes.get(self.plan.name(trial_id, run))
            if found is None:
                return None
            by_fold.setdefault(run[0], []).append(found.scores(self.metric))
        return [
            fmean(each) for fold in sorted(by_fold) for each in zip(*by_fold[fold], strict=True)
        ]

    def mean(self, trial_id: str, first: int) -> Difference:
        """The mean over the runs with its standard error: of the images, or of the runs if larger.

        The error is infinite where neither is known.
        """
        return widest(self.values(trial_id, first), self.images(trial_id, first))

    def lead(self, leader: str, other: str, first: int) -> Difference:
        """By how much one configuration is better than another in the same runs, as `mean`."""
        one, two = self.images(leader, first), self.images(other, first)
        same = one is not None and two is not None and len(one) == len(two)
        values = [a - b for a, b in pairs(self.values(leader, first), self.values(other, first))]
        return widest(values, [a - b for a, b in pairs(one or [], two or [])] if same else None)

    def leader(self, trials: Sequence[str], first: int) -> str:
        """The configuration with the best mean; the earlier in the plan among equals."""
        return max(trials, key=lambda trial_id: fmean(self.values(trial_id, first)))

    def dropped(self, first: int) -> dict[str, int]:
        """The configurations given up before run `first` (from 0), and after how many runs.

        The baseline never is: it is the number to beat.
        """
        given_up: dict[str, int] = {}
        for runs in range(1, first + 1):
            left = [t for t in self.plan.trials if t not in given_up and self.done(t, runs)]
            if not left:
                break
            leader = self.leader(left, runs)
            for trial_id in left:
                lead = self.lead(leader, trial_id, runs)
                if trial_id != BASELINE and lead.mean > DOUBT * lead.error:
                    given_up[trial_id] = runs
        return given_up


def pairs(one: Sequence[float], two: Sequence[float]) -> list[tuple[float, float]]:
    """What belongs together."""
    return list(zip(one, two, strict=True))


def widest(values: Sequence[float], images: Sequence[float] | None) -> Difference:
    """The mean of the runs' values, with the larger of the two standard errors that it has."""
    by_runs = mean_and_error(values)
    if images is None:
        known = len(values) >= FEWEST
        return by_runs if known else Difference(by_runs.mean, math.inf)
    by_images = mean_and_error(images).error
    return Difference(by_runs.mean, max(by_images, by_runs.error if len(values) > 1 else 0.0))


def is_whole(record: TrialRecord, metric: str) -> bool:
    """Whether a run has completed, and the ledger has a value of each of its epochs."""
    values = [row.get(metric, math.nan) for row in record.history.values()]
    known = bool(values) and len(values) == record.epochs and all(map(math.isfinite, values))
    return record.status == "completed" and known


def runs_of(
    plan: Plan,
    metric: str,
    mode: str,
    records: Mapping[str, TrialRecord],
    outcomes: Mapping[str, Outcomes],
) -> Runs:
    """What a confirmation's ledger and files hold of the plan."""
    names = {plan.name(t, run): t for t in plan.trials for run in plan.runs}
    own = [record for record in records.values() if record.origin in names]
    whole = {record.origin: record for record in own if is_whole(record, metric)}
    known = {
        name: outcomes[record.trial_id]
        for name, record in whole.items()
        if record.trial_id in outcomes
        and outcomes[record.trial_id].epoch == record.best_epoch(metric, mode)
    }
    failed = frozenset(names[record.origin] for record in own if record.status in BAD)
    return Runs(plan, metric, mode, whole, known, failed)

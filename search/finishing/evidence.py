"""All that confirmed configurations predicted out of fold, alone and together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from search.finishing.calibrate import (
    LEAST,
    Calibration,
    Floats,
    Predicted,
    calibrate,
    fit_temperature,
    temper,
)
from search.finishing.choice import trial_config
from search.finishing.mixture import mix, select
from search.finishing.out_of_fold import Fold, Key, Labels, read_folds, scores
from search.records.search import Search
from search.study.study import Study
from trainables.data import CENTRE

Fitted = TypeVar("Fitted")
Picks = Mapping[Key, int]
"""Each member of a prediction, and how often it counts."""
ByFold = dict[int, NDArray[np.float64]]
"""Fold -> score of each of its images (N,), higher is better."""


@dataclass(frozen=True)
class Evidence:
    """Of the configurations that were run on every fold."""

    metric: str
    folds: Mapping[Key, Mapping[int, Fold]]
    groups: Mapping[Key, str]
    """What is merged with what (`mixture.py`)."""

    @property
    def numbers(self) -> list[int]:
        """Of the folds."""
        return sorted(next(iter(self.folds.values()), {}))

    def has(self, picks: Iterable[Key], looks: Iterable[str] = ()) -> bool:
        """Whether all of this was predicted in every fold."""
        return all(
            key in self.folds
            and all({*looks} <= {*fold.looks} for fold in self.folds[key].values())
            for key in picks
        )

    def logits(self, key: Key, looks: Sequence[str], folds: Sequence[int]) -> Floats:
        """(L, N, C) of some folds, one after another."""
        found = self.folds[key]
        each = [[found[f].logits[look] for f in folds] for look in (CENTRE, *looks)]
        return np.stack([np.concatenate(parts) for parts in each])

    def labels(self, folds: Sequence[int]) -> Labels:
        """(N,)."""
        one = next(iter(self.folds.values()))
        return np.concatenate([one[fold].labels for fold in folds])

    def probabilities(self, picks: Picks, looks: Sequence[str], fold: int) -> Floats:
        """(N, C): what these predict together."""
        return mix(picks, {key: self.logits(key, looks, [fold]) for key in picks}, self.groups)

    def scores(
        self, picks: Picks, looks: Sequence[str] = (), temperature: float = 1.0
    ) -> Callable[[int], NDArray[np.float64]]:
        """Fold -> score of each image (N,)."""

        def of_fold(fold: int) -> NDArray[np.float64]:
            found = temper(self.probabilities(picks, looks, fold), temperature)
            return scores(found, self.labels([fold]), self.metric)

        return of_fold

    def all_scores(
        self, picks: Picks, looks: Sequence[str] = (), temperature: float = 1.0
    ) -> ByFold:
        """Those of all folds."""
        one = self.scores(picks, looks, temperature)
        return {fold: one(fold) for fold in self.numbers}

    def held_out(
        self,
        fit: Callable[[Sequence[int]], Fitted],
        judge: Callable[[Fitted], Callable[[int], NDArray[np.float64]]],
    ) -> ByFold:
        """Each fold's scores by what was fitted to all other folds."""
        every = self.numbers
        return {f: judge(fit([other for other in every if other != f]))(f) for f in every}

    def looks(self, key: Key) -> tuple[str, ...]:
        """Those by which a configuration was seen in every fold."""
        each = [fold.looks for fold in self.folds[key].values()]
        return tuple(look for look in each[0] if all(look in other for other in each))

    def predicted(self, picks: Picks, looks: Sequence[str], fold: int) -> Predicted:
        """Log probabilities and labels, to be calibrated by."""
        found = self.probabilities(picks, looks, fold).astype(np.float64)
        return np.log(np.maximum(found, LEAST)), self.labels([fold])

    def temperature(self, picks: Picks, looks: Sequence[str], folds: Sequence[int]) -> float:
        """Of what these predict together on some folds."""
        return fit_temperature([self.predicted(picks, looks, fold) for fold in folds])

    def calibration(self, picks: Picks, looks: Sequence[str]) -> Calibration:
        """That on all folds, and what it is worth."""
        return calibrate([self.predicted(picks, looks, fold) for fold in self.numbers])

    def best_looks(
        self, picks: Picks, options: Sequence[tuple[str, ...]], folds: Sequence[int]
    ) -> tuple[str, ...]:
        """The looks to average over that are best on some folds."""

        def mean(looks: tuple[str, ...]) -> float:
            one = self.scores(picks, looks)
            return float(np.concatenate([one(fold) for fold in folds]).mean())

        return max(options, key=mean)

    def best_picks(self, looks: Sequence[str], most: int, folds: Sequence[int]) -> Picks:
        """The members of an ensemble that are best together on some folds."""
        keys = [key for key in self.folds if self.has([key], looks)]
        logits = {key: self.logits(key, looks, folds) for key in keys}

        def score(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
            return scores(probabilities, labels, self.metric)

        return select(logits, self.labels(folds), self.groups, most, score)


def gather(found: Search, study: Study) -> Evidence | None:
    """What a confirmation on folds left; None without one.

    Raises ValueError where a file is not as it was written.
    """
    runs = found.runs
    if runs is None or found.confirmed is None or runs.plan.folds < 2:
        return None
    keys = [(t, s) for t in runs.plan.trials if t in found.records for s in range(runs.plan.seeds)]
    every = {key: read_folds(found, key) for key in keys}
    folds = {key: each for key, each in every.items() if len(each) == runs.plan.folds}
    return Evidence(found.metric, folds, groups_of(found, study, list(folds))) if folds else None


def groups_of(found: Search, study: Study, keys: Sequence[Key]) -> dict[Key, str]:
    """What is merged with what: by the task's own `merge_key`, if it has any."""
    merge_key = getattr(study.trainables, "merge_key", lambda config: None)
    return {
        key: merge_key(trial_config(found, study, key[0])) or f"{key[0]} seed +{key[1]}"
        for key in keys
    }

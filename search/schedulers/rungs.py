"""The rungs of successive halving: who reached which epoch with what score, who may go on.

Asynchronous successive halving after Li et al., "A System for Massively Parallel Hyperparameter
Tuning", MLSys 2020 (arXiv 1810.05934), Algorithm 2. Nothing here knows Ray or Optuna.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

import numpy as np

from search.records.metric import oriented
from search.records.statuses import BAD, UNFINISHED
from search.samplers.trial import Mode, SearchTrial


@dataclass
class Rungs:
    """Scores at each level, by trial id. Scores are oriented: higher is better.

    `paused` holds the trials that wait at their highest rung; `promoted[k]` those that have gone
    on from rung k. `pausing` tells promoting ASHA from stopping ASHA.
    """

    levels: tuple[int, ...]
    reduction_factor: float
    mode: Mode
    pausing: bool = False
    scores: list[dict[str, float]] = field(init=False)
    promoted: list[set[str]] = field(init=False)
    ranking: list[list[tuple[float, int, str]]] = field(init=False)
    paused: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.scores = [{} for _ in self.levels]
        self.promoted = [set() for _ in self.levels]
        self.ranking = [[] for _ in self.levels]  # by (-score, arrival), for a cheap `promotable`

    def score(self, value: float) -> float:
        """A metric's value, oriented so that higher is better."""
        return oriented(value, self.mode)

    def record(self, trial_id: str, epoch: int, value: float) -> int | None:
        """Note a report; the highest rung that this trial has reached with it for the first time.

        A report that jumps over several levels counts at each of them.
        """
        reached = None
        for rung, level in enumerate(self.levels):
            if epoch >= level and trial_id not in self.scores[rung]:
                score = self.score(value)
                insort(self.ranking[rung], (-score, len(self.ranking[rung]), trial_id))
                self.scores[rung][trial_id] = score
                reached = rung
        for rung in range(reached or 0):
            self.promoted[rung].add(trial_id)
        return reached

    def below_cutoff(self, trial_id: str, rung: int) -> bool:
        """Whether stopping ASHA ends a trial: below the (1 - 1/factor) percentile of the others.

        As in Ray's scheduler, the first at a rung always goes on, and equals go on.
        """
        scores = self.scores[rung]
        others = [score for other, score in scores.items() if other != trial_id]
        if not others:
            return False
        cutoff = np.percentile(others, (1 - 1 / self.reduction_factor) * 100)
        return bool(scores[trial_id] < cutoff)

    def promotable(self) -> str | None:
        """Algorithm 2: from the top rung down, the best waiting trial of its top 1/factor."""
        for rung in reversed(range(len(self.levels))):
            best = self._top(rung, int(len(self.scores[rung]) / self.reduction_factor))
            for trial_id in best:
                if trial_id in self.paused and trial_id not in self.promoted[rung]:
                    return trial_id
        return None

    def _top(self, rung: int, count: int) -> list[str]:
        """The `count` best trials of a rung, best first, the earlier one of two equals first."""
        return [trial_id for _, _, trial_id in self.ranking[rung][:count]]

    def leader(self) -> str | None:
        """The trial to finish when a search ends: the best of the highest rung, if it waits.

        With it, the best trial seen has been trained in full when the search ends. Trials that
        failed or diverged further on do not count.
        """
        for ranking in reversed(self.ranking):
            sound = (trial_id for _, _, trial_id in ranking if trial_id not in self.bad)
            best = next(sound, None)
            if best is not None:
                return best if best in self.paused else None
        return None

    def least_promising(self) -> str | None:
        """The waiting trial to give up first: the worst of the lowest rung, not who is next."""
        next_ones = {self.promotable(), self.leader()}
        for rung, ranking in enumerate(self.ranking):
            for _, _, trial_id in reversed(ranking):
                waits = trial_id in self.paused and trial_id not in self.promoted[rung]
                if waits and trial_id not in next_ones:
                    return trial_id
        return None

    def pause(self, trial_id: str) -> None:
        """The trial waits at its rung."""
        self.paused.add(trial_id)

    def promote(self, trial_id: str) -> None:
        """A waiting trial goes on."""
        self.paused.remove(trial_id)
        for rung, scores in enumerate(self.scores):
            if trial_id in scores:
                self.promoted[rung].add(trial_id)

    def drop(self, trial_id: str, *, bad: bool = False) -> None:
        """The trial has ended, `bad` if it failed or diverged; its scores stay."""
        self.paused.discard(trial_id)
        if bad:
            self.bad.add(trial_id)

    def replay(self, trials: Iterable[SearchTrial], whole: Container[str] = ()) -> None:
        """Fill the rungs from the trials of earlier sessions, in the order of their start.

        When pausing, an unfinished trial that stands exactly at a rung waits there, but for those
        that run the `whole` budget.
        """
        for trial in trials:
            for level in self.levels:
                value = trial.value_at(level)
                if value is not None:
                    self.record(trial.trial_id, level, value)
            if trial.status in BAD:
                self.drop(trial.trial_id, bad=True)
            waits = trial.status in UNFINISHED and trial.trial_id not in whole
            if self.pausing and waits and trial.epoch in self.levels:
                self.pause(trial.trial_id)
            reached = [rung for rung, scores in enumerate(self.scores) if trial.trial_id in scores]
            if reached and trial.epoch > self.levels[reached[-1]]:
                self.promoted[reached[-1]].add(trial.trial_id)

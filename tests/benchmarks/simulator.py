"""Ray Tune's driver loop on a simulated clock: real searchers and schedulers, no processes.

It calls the hooks of a `Searcher` and a `TrialScheduler` in the order of Ray 2.60's TuneController:
one suggested trial waits ahead of the workers; `choose_trial_to_run` goes before it; a result goes
to the scheduler, then to the searcher unless the trial is stopped; a stopped trial is completed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

Curve = Callable[[dict[str, Any]], np.ndarray]


@dataclass(eq=False)
class SimulatedTrial:
    """What searchers and schedulers use of Ray's Trial."""

    trial_id: str
    config: dict[str, Any]
    curve: np.ndarray
    pace: float
    status: str = Trial.PENDING
    epoch: int = 0
    last_result: dict[str, Any] = field(default_factory=dict)

    def should_recover(self) -> bool:
        """Ray tries none again by itself."""
        return False


@dataclass
class Track:
    """The incumbent after each epoch that any worker has trained: its final value."""

    found: list[float] = field(default_factory=list)
    trials: int = 0


class Simulation:
    """A controller for `num_workers` workers; an epoch takes one unit of time, +- 20 % by trial."""

    def __init__(
        self,
        searcher: Searcher,
        scheduler: Any,
        curve: Curve,
        *,
        metric: str = "valid_acc",
        num_workers: int = 4,
        seed: int = 0,
    ) -> None:
        """`curve` gives a configuration's metric (higher is better) after each epoch."""
        self.searcher = searcher
        self.scheduler = scheduler
        self.curve = curve
        self.metric = metric
        self.rng = np.random.default_rng(seed)
        self.free = num_workers
        self.pending: list[SimulatedTrial] = []
        self.trials: list[SimulatedTrial] = []
        self.events: list[tuple[float, int, SimulatedTrial]] = []
        self.ties = itertools.count()
        self.finished = False
        self.now = 0.0
        self.last: dict[str, tuple[float, float]] = {}
        self.best: tuple[float, float] = (-np.inf, np.nan)

    def run(self, epochs: int) -> Track:
        """Simulate until so many epochs have been trained, or the search is over."""
        track = Track()
        self._fill()
        while self.events and len(track.found) < epochs:
            self.now, _, trial = heapq.heappop(self.events)
            self._report(trial)
            track.found.append(self.best[1])
            self._fill()
        track.trials = len(self.trials)
        return track

    def get_trials(self) -> list[SimulatedTrial]:
        """All trials (for schedulers)."""
        return self.trials

    def _fill(self) -> None:
        """Ask for one trial ahead, then start trials while workers are free."""
        for _ in range(2 * self.free + 2):
            self._suggest()
            chosen = self.scheduler.choose_trial_to_run(self)
            if chosen is None and self.pending:
                chosen = self.pending[0]
            if chosen is None:
                continue
            if not self.free:
                return
            self._start(chosen)

    def _suggest(self) -> None:
        if self.pending or self.finished:
            return
        trial_id = f"ray{len(self.trials):05d}"
        config = self.searcher.suggest(trial_id)
        if config == Searcher.FINISHED:
            self.finished = True
        elif config is not None:
            pace = float(np.exp(self.rng.normal(0, 0.2)))
            trial = SimulatedTrial(trial_id, config, self.curve(config), pace)
            self.trials.append(trial)
            self.pending.append(trial)
            self.scheduler.on_trial_add(self, trial)

    def _start(self, trial: SimulatedTrial) -> None:
        if trial in self.pending:
            self.pending.remove(trial)
        trial.status = Trial.RUNNING
        self.free -= 1
        self._train(trial)

    def _train(self, trial: SimulatedTrial) -> None:
        heapq.heappush(self.events, (self.now + trial.pace, next(self.ties), trial))

    def _report(self, trial: SimulatedTrial) -> None:
        """One epoch has been trained."""
        trial.epoch += 1
        result = {"epoch": trial.epoch, "training_iteration": trial.epoch, **self.metrics(trial)}
        self.note(trial, result[self.metric])
        decision = self.scheduler.on_trial_result(self, trial, result)
        if trial.epoch >= len(trial.curve):
            decision = TrialScheduler.STOP
        if decision != TrialScheduler.STOP:
            self.searcher.on_trial_result(trial.trial_id, result)
        trial.last_result = result
        if decision == TrialScheduler.CONTINUE:
            self._train(trial)
            return
        self.free += 1
        if decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
        else:
            self.stop_trial(trial)

    def metrics(self, trial: SimulatedTrial) -> dict[str, float]:
        """What the trial reports of the epoch that it has just trained."""
        return {self.metric: float(trial.curve[trial.epoch - 1])}

    def note(self, trial: SimulatedTrial, value: float) -> None:
        """The incumbent is the configuration whose last observed value is highest."""
        self.last[trial.trial_id] = (value, float(trial.curve[-1]))
        if value >= self.best[0]:
            self.best = self.last[trial.trial_id]
        else:
            self.best = max(self.last.values(), key=lambda pair: pair[0])

    def stop_trial(self, trial: SimulatedTrial) -> None:
        """As TuneController.stop_trial."""
        if trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
            self.searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
            self.searcher.on_trial_complete(trial.trial_id)
        trial.status = Trial.TERMINATED

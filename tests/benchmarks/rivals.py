"""The searches that the project's own is compared with, as pairs for the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from search.study.space import Config, Space, suggest

METRIC = "valid_acc"
Pair = tuple[Searcher, Any]


def stock_ray(space: Space, seed: int, epochs: int, grace: int | None = None) -> Pair:
    """Ray's OptunaSearch (its default TPE) and ASHAScheduler, with defaults but for `grace`."""
    searcher = OptunaSearch(
        space=dict(space), metric=METRIC, mode="max", sampler=TPESampler(seed=seed)
    )
    given = {} if grace is None else {"grace_period": grace}
    scheduler = ASHAScheduler(time_attr="epoch", metric=METRIC, mode="max", max_t=epochs, **given)
    return searcher, scheduler


class OptunaAlone(Searcher, FIFOScheduler):  # type: ignore[misc]
    """Optuna as its manual says: ask, report, should_prune, tell. Searcher and scheduler in one."""

    def __init__(self, space: Space, sampler: BaseSampler, pruner: BasePruner) -> None:
        Searcher.__init__(self, metric=METRIC, mode="max")
        self.space = space
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self.asked: dict[str, optuna.Trial] = {}
        self.pruned: set[str] = set()

    @property
    def metric(self) -> str:
        """Both base classes have it."""
        return METRIC

    def suggest(self, trial_id: str) -> Config:
        """Ask."""
        self.asked[trial_id] = self.study.ask()
        return suggest(self.asked[trial_id], self.space)

    def on_trial_result(self, *arguments: Any) -> str | None:
        """The searcher's hook has two arguments and does nothing; the scheduler's has three."""
        if len(arguments) < 3:
            return None
        _, trial, result = arguments
        asked = self.asked[trial.trial_id]
        asked.report(result[METRIC], result["epoch"])
        if not asked.should_prune():
            return str(TrialScheduler.CONTINUE)
        self.pruned.add(trial.trial_id)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
        """Tell, when called as the searcher."""
        if isinstance(arguments[0], str):
            asked = self.asked.pop(arguments[0])
            state = optuna.trial.TrialState
            if named.get("error"):
                self.study.tell(asked, state=state.FAIL)
            elif arguments[0] in self.pruned:
                self.study.tell(asked, state=state.PRUNED)
            else:
                self.study.tell(asked, named["result"][METRIC])


def random_search(space: Space, seed: int) -> Pair:
    """Random configurations, trained in full."""
    both = OptunaAlone(space, RandomSampler(seed=seed), NopPruner())
    return both, both


def optuna_tpe(space: Space, seed: int) -> Pair:
    """Optuna's TPE, trained in full."""
    both = OptunaAlone(space, TPESampler(seed=seed), NopPruner())
    return both, both


def optuna_halving(space: Space, seed: int) -> Pair:
    """Optuna's TPE and its SuccessiveHalvingPruner, both with their defaults."""
    both = OptunaAlone(space, TPESampler(seed=seed), SuccessiveHalvingPruner())
    return both, both


class OneEpochFirst(FIFOScheduler):  # type: ignore[misc]
    """Pause all after one epoch, then finish them, the best first: Egele et al., 2307.15422."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.first: dict[str, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """PAUSE after the first epoch."""
        if result["epoch"] > 1:
            return str(TrialScheduler.CONTINUE)
        self.first[trial.trial_id] = result[METRIC]
        return str(TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The best paused trial, once every candidate has had its epoch."""
        if len(self.first) < self.count:
            return None
        paused = [t for t in tune_controller.get_trials() if t.status == Trial.PAUSED]
        return max(paused, key=lambda t: self.first[t.trial_id], default=None)


class Candidates(Searcher):  # type: ignore[misc]
    """So many random configurations."""

    def __init__(self, space: Space, seed: int, count: int) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.space = space
        self.left = count
        self.study = optuna.create_study(sampler=RandomSampler(seed=seed))

    def suggest(self, trial_id: str) -> Config | str:
        """The next one."""
        self.left -= 1
        return suggest(self.study.ask(), self.space) if self.left >= 0 else Searcher.FINISHED

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
        """Nothing is learnt."""


def one_epoch_then_best(space: Space, seed: int, trainings: int, epochs: int) -> Pair:
    """A tenth of the budget for one epoch each, the rest for the best of them."""
    count = int(np.ceil(trainings * epochs / 10))
    return Candidates(space, seed, count), OneEpochFirst(count)

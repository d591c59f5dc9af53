"""Syne Tune's schedulers behind Ray's hooks, in an environment that has Syne Tune.

pip install syne-tune statsmodels  (ASHACQR also: xgboost)
"""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.study.space import Config, Space
from tests.benchmarks.rivals import METRIC, Pair

AVAILABLE = find_spec("syne_tune") is not None
BASELINES = ("ASHA", "BOHB", "ASHACQR", "ASHABORE")


class SyneTune(Searcher, FIFOScheduler):  # type: ignore[misc]
    """A Syne Tune scheduler as Ray's searcher and scheduler in one."""

    def __init__(self, scheduler: Any) -> None:
        Searcher.__init__(self, metric=METRIC, mode="max")
        self.scheduler = scheduler
        self.trials: dict[str, Any] = {}

    @property
    def metric(self) -> str:
        """Both base classes have it."""
        return METRIC

    def suggest(self, trial_id: str) -> Config:
        """A new trial."""
        from syne_tune.backend.trial_status import Trial

        config = dict(self.scheduler.suggest().config)
        self.trials[trial_id] = Trial(len(self.trials), config, datetime(2026, 1, 1))
        self.scheduler.on_trial_add(self.trials[trial_id])
        return config

    def on_trial_result(self, *arguments: Any) -> str | None:
        """The decision, when called as the scheduler; Syne Tune's words are Ray's."""
        if len(arguments) < 3:
            return None
        _, trial, result = arguments
        return str(self.scheduler.on_trial_result(self.trials[trial.trial_id], result))

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
        """Syne Tune has decided on the last result itself; only an error is left to tell."""
        if named.get("error"):
            self.scheduler.on_trial_error(self.trials[arguments[0]])


def syne_tune(space: Space, seed: int, epochs: int, name: str, grace: int = 1) -> Pair:
    """One of BASELINES, of `syne_tune.optimizer.baselines`, with defaults but for `grace`.

    These take none: it is that of the one bracket that they have.
    """
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.schedulers.asha import Bracket

    scheduler = getattr(baselines, name)(
        {knob: _domain(distribution) for knob, distribution in space.items()},
        metric=METRIC,
        do_minimize=False,
        time_attr="epoch",
        max_t=epochs,
        random_seed=seed,
    )
    scheduler.brackets = [Bracket(grace, epochs, scheduler.reduction_factor, 0)]
    both = SyneTune(scheduler)
    return both, both


def _domain(knob: Any) -> Any:
    """A range in Syne Tune's terms."""
    from syne_tune import config_space

    if isinstance(knob, CategoricalDistribution):
        return config_space.choice(list(knob.choices))
    if isinstance(knob, IntDistribution):
        return (config_space.lograndint if knob.log else config_space.randint)(knob.low, knob.high)
    assert isinstance(knob, FloatDistribution)
    return (config_space.loguniform if knob.log else config_space.uniform)(knob.low, knob.high)

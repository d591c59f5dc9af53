"""A searcher driven by hand, trial by trial: for the tests of searching without Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search import Searcher

from search.records.statuses import Status
from search.schedulers.searcher import AshaSearcher
from search.study.space import Space, When

SPACE: Space = {
    "lr": FloatDistribution(1e-3, 1.0, log=True),
    "schedule": CategoricalDistribution(["constant", "step"]),
    "lr_period": When("schedule", ("step",), IntDistribution(2, 20)),
}
BASELINE = {"lr": 0.1, "schedule": "step", "lr_period": 10, "seed": 0}
PLANE: Space = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
SAMPLERS = ["gp", "tpe", "random"]  # cmaes cannot search SPACE


@dataclass
class Past:
    """As the ledger's TrialRecord."""

    trial_id: str
    config: dict[str, Any]
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    status: Status = "completed"
    origin: str = "sampler"
    error: str | None = None
    checkpoint: str | None = None
    audited: bool = False


def searcher(space: Space = SPACE, **settings: Any) -> AshaSearcher:
    settings = {"num_samples": 20, "num_epochs": 9, "scheduler": "none", **settings}
    return AshaSearcher(space, metric="valid_acc", mode="max", **settings)


def drive(
    search: AshaSearcher, value: Callable[[dict[str, Any]], float | None], most: int = 10**6
) -> list[dict[str, Any]]:
    """Run trials one by one: `value` is the final metric, None an exception."""
    configs: list[dict[str, Any]] = []
    while len(configs) < most:
        config = search.suggest(f"ray{len(configs)}")
        assert config is not None
        if config == Searcher.FINISHED:
            break
        assert isinstance(config, dict)
        configs.append(config)
        outcome = value(config)
        result = {"epoch": 9, "valid_acc": outcome}
        if outcome is None:
            search.on_trial_complete(f"ray{len(configs) - 1}", None, error=True)
        else:
            search.on_trial_complete(f"ray{len(configs) - 1}", result)
    return configs


def knobs(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}

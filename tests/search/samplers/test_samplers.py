"""What every sampler of the registry must do; a new one is tried by its line there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.errors import UsageError
from search.samplers.gp_model import Array, GPModel
from search.samplers.make import check_sampler, make_sampler
from search.samplers.sampler import Sampler
from search.samplers.trial import SearchTrial
from search.study.choices import SAMPLERS
from search.study.space import Config, Space, When, contains, key
from tests.searching import PLANE

NUMBERS: Space = {
    "lr": FloatDistribution(1e-3, 1.0, log=True),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "hidden": IntDistribution(0, 512, step=64),
    "width": IntDistribution(16, 512, log=True),
}
MIXED: Space = {
    **NUMBERS,
    "schedule": CategoricalDistribution(["constant", "step"]),
    "lr_period": When("schedule", ("step",), IntDistribution(2, 20)),
    "nesterov": CategoricalDistribution([False, True]),
}
SMALL: Space = {
    "schedule": CategoricalDistribution(["constant", "step"]),
    "lr_period": When("schedule", ("step",), IntDistribution(1, 11)),
}
SPACES = {"numbers": NUMBERS, "mixed": MIXED, "small": SMALL}
NUMBERS_ONLY = {"cmaes"}
BY_CHANCE = {"random"}  # learns nothing, from crashes neither
LEVELS = (1, 3, 9)


def searches(sampler: str, space: Space) -> bool:
    """Whether the sampler takes the space on."""
    try:
        check_sampler(sampler, space)
    except UsageError:
        return False
    return True


TAKEN = [(s, name) for s, name in product(SAMPLERS, SPACES) if searches(s, SPACES[name])]


def quality(config: Config) -> float:
    """Higher for a larger dropout and a longer period."""
    return float(config.get("dropout", 0.0)) + 0.05 * float(config.get("lr_period", 0))


def ended(name: str, config: Config, value: float | None) -> SearchTrial:
    """A trial that has run to its end; without a value, one that has crashed."""
    if value is None:
        return SearchTrial(name, config, "sampler", status="failed")
    return SearchTrial(name, config, "sampler", {9: value}, "completed")


def propose(
    sampler: Sampler,
    count: int,
    value: Callable[[Config], float | None] = quality,
    trials: list[SearchTrial] | None = None,
) -> list[Config]:
    """Up to `count` proposals, each run to the end: `value` is its metric, None a crash."""
    trials = [] if trials is None else trials
    seen = {key(trial.config) for trial in trials}
    configs: list[Config] = []
    while len(configs) < count:
        proposal = sampler.propose(trials, lambda config: key(config) not in seen)
        if proposal is None:
            break
        config, attrs = proposal
        trials.append(ended(f"t{len(trials):04d}", config, value(config)))
        trials[-1].sampler_attrs = attrs
        assert key(config) not in seen
        seen.add(key(config))
        configs.append(config)
    return configs


def test_who_takes_on_which_space() -> None:
    refused = {s for s in SAMPLERS if (s, "mixed") not in TAKEN}
    assert refused == NUMBERS_ONLY
    assert {(s, "numbers") for s in SAMPLERS} <= set(TAKEN)
    for sampler in NUMBERS_ONLY:
        with pytest.raises(UsageError, match=f"sampler {sampler} needs numbers only"):
            check_sampler(sampler, MIXED)


@pytest.mark.parametrize(("sampler", "space"), TAKEN)
def test_proposals_lie_in_the_space_and_do_not_repeat(sampler: str, space: str) -> None:
    searched = SPACES[space]
    configs = propose(make_sampler(sampler, searched, "max", LEVELS, 0), 40)
    assert len(configs) == (40 if space != "small" else len(configs)) > 6
    assert all(contains(searched, config) for config in configs)
    assert all(set(config) <= set(searched) for config in configs)
    if "lr_period" in searched:
        assert {"lr_period" in config for config in configs} == {True, False}
    if "dropout" in searched:
        assert {config["dropout"] for config in configs} <= {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}


@pytest.mark.parametrize(("sampler", "space"), TAKEN)
def test_a_seed_decides_the_proposals(sampler: str, space: str) -> None:
    def run(seed: int) -> list[Config]:
        return propose(make_sampler(sampler, SPACES[space], "max", LEVELS, seed), 20)

    assert run(3) == run(3)
    assert run(3) != run(4)


def share_of_crashes(sampler: str) -> float:
    """Of 40 proposals after 60 trials; above x = 0.5 all fail, and below the largest x is best."""

    def outcome(config: Config) -> float | None:
        return float(config["x"]) if config["x"] < 0.5 else None

    shares = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        trials: list[SearchTrial] = []
        for x in (np.arange(60) + 0.5) / 60:
            config = {"x": float(x), "y": float(rng.random())}
            trials.append(ended(f"t{len(trials):04d}", config, outcome(config)))
        made = make_sampler(sampler, PLANE, "max", LEVELS, seed)
        configs = propose(made, 40, outcome, trials)
        shares.append(np.mean([outcome(config) is None for config in configs]))
    return float(np.mean(shares))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_region_of_crashes_is_avoided(sampler: str) -> None:
    share = share_of_crashes(sampler)
    assert share > 0.43 if sampler in BY_CHANCE else share < 0.4


def test_the_gp_predicts_no_more_points_in_a_long_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    trials = [
        ended(f"t{n:04d}", {"x": float(rng.random()), "y": float(rng.random())}, float(n))
        for n in range(2000)
    ]
    predict = GPModel.predict
    sizes: list[int] = []

    def noted(self: GPModel, x: Array, s: float) -> tuple[Array, Array]:
        sizes.append(len(x))
        return predict(self, x, s)

    monkeypatch.setattr(GPModel, "predict", noted)
    propose(make_sampler("gp", PLANE, "max", LEVELS, 0), 5, lambda config: 1.0, trials)
    assert 0 < max(sizes) < 600  # two times 256 draws; 160 observations


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_costs_no_more_after_ten_thousand_trials(sampler: str) -> None:
    """Python calls of a proposal: at most 3 for each trial that the search has more."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(10_000):
        values = dict.fromkeys([1] if number % 3 else [1, 3, 9], float(rng.random()))
        config = {"x": float(rng.random()), "y": float(rng.random())}
        trials.append(SearchTrial(f"t{number:05d}", config, "sampler", values, "stopped"))

    def calls(count: int) -> int:
        made = make_sampler(sampler, PLANE, "max", LEVELS, 0)
        made.propose(trials[:count], lambda config: True)  # what is worked out once
        noted = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal noted
            noted += event == "call"

        sys.setprofile(note)
        try:
            made.propose(trials[:count], lambda config: True)
        finally:
            sys.setprofile(None)
        return noted

    assert calls(10_000) - calls(1_000) < 3 * 9_000

"""Optuna sampler objects of the user's: what they keep in their study, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from optuna.samplers import (
    BruteForceSampler,
    CmaEsSampler,
    GridSampler,
    NSGAIISampler,
    QMCSampler,
    TPESampler,
)
from optuna.trial import TrialState
from scipy.stats.qmc import Sobol

from search.errors import UsageError
from search.samplers.make import check_sampler
from search.samplers.own_sampler import OwnSampler
from search.samplers.trial import SearchTrial
from search.study.space import Space
from tests.searching import PLANE, SPACE, Past, drive, searcher

GRID: dict[str, list[Any]] = {"x": [0.0, 0.25, 0.5, 0.75, 1.0], "y": [0.1, 0.2, 0.3]}
POINTS = {(x, y) for x in GRID["x"] for y in GRID["y"]}


def bowl(config: dict[str, Any]) -> float:
    return float(1 - (config["x"] - 0.7) ** 2 - (config["y"] - 0.2) ** 2)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_low_discrepancy_sequence_goes_on_from_trial_to_trial() -> None:
    sampler = QMCSampler(seed=0)
    check_sampler(sampler, PLANE)
    configs = drive(searcher(PLANE, sampler=sampler, num_samples=16), bowl)
    points = [[config["x"], config["y"]] for config in configs[1:]]  # the first one is random
    assert points == Sobol(2, scramble=False).random(16)[:15].tolist()


def test_a_grid_is_tried_once_from_end_to_end_and_ends_the_search() -> None:
    sampler = GridSampler(GRID, seed=0)
    check_sampler(sampler, PLANE)
    search = searcher(PLANE, sampler=sampler, num_samples=40, baseline={"x": 0.25, "y": 0.2})
    configs = drive(search, lambda config: None if config["x"] == 0.5 else bowl(config))
    assert {(config["x"], config["y"]) for config in configs} == POINTS
    assert len(configs) == 15
    assert search.exhausted == "GridSampler has proposed all of its points"


def test_a_resumed_grid_takes_the_points_that_are_left() -> None:
    tried = sorted(POINTS)[:11]
    past = [
        Past(f"t{number:04d}", {"x": x, "y": y}, {9: {"valid_acc": x}})
        for number, (x, y) in enumerate(tried)
    ]
    search = searcher(PLANE, sampler=GridSampler(GRID, seed=0), num_samples=40, past=past)
    configs = drive(search, bowl)
    assert {(config["x"], config["y"]) for config in configs} == POINTS - set(tried)
    assert len(configs) == 4


def test_a_grid_whose_trials_still_run_is_not_proposed_twice() -> None:
    search = searcher(PLANE, sampler=GridSampler(GRID, seed=0), num_samples=40)
    given = [search.suggest(f"ray{number}") for number in range(16)]
    assert given[-1] is None
    assert {(config["x"], config["y"]) for config in given if isinstance(config, dict)} == POINTS


def test_a_brute_force_ends_with_the_space() -> None:
    small: Space = {"schedule": SPACE["schedule"], "lr_period": SPACE["lr_period"]}
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        sampler = BruteForceSampler(seed=0)
    check_sampler(sampler, small)
    search = searcher(small, sampler=sampler, num_samples=100)
    assert len(drive(search, lambda config: config.get("lr_period", 0))) == 20
    assert search.exhausted


@pytest.mark.parametrize(
    "make",
    [
        lambda: NSGAIISampler(population_size=10, seed=1),
        lambda: TPESampler(seed=0, n_startup_trials=5),
        lambda: CmaEsSampler(seed=0, warn_independent_sampling=False),
    ],
    ids=["nsga", "tpe", "cmaes"],
)
def test_objects_learn_from_results(make: Any) -> None:
    sampler = make()
    check_sampler(sampler, PLANE)
    configs = drive(searcher(PLANE, sampler=sampler, num_samples=60), bowl)
    assert len(configs) == 60
    assert max(bowl(config) for config in configs) > 0.99


def test_a_trial_keeps_its_number_while_its_value_follows_the_rung() -> None:
    own = OwnSampler(PLANE, TPESampler(seed=0), "max", (1, 3))
    trials: list[SearchTrial] = []
    for number in range(5):
        proposal = own.propose(trials, lambda config: True)
        assert proposal is not None
        config, attrs = proposal
        values = {1: 0.1 * number, 2: 0.2 * number}
        trials.append(SearchTrial(f"t{number}", config, "sampler", values, sampler_attrs=attrs))
        trials[-1].status = "paused"
    own._tell(trials)
    assert [t.value for t in own.study.get_trials()] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    for trial in trials[1:4]:  # three are enough for a space of two knobs
        trial.values[3] = 0.5 + trial.values[1]
    trials[4].status = "diverged"
    own._tell(trials)
    shown = own.study.get_trials()
    assert [trial.number for trial in shown] == [0, 1, 2, 3, 4]
    states = [TrialState.FAIL, *[TrialState.COMPLETE] * 3, TrialState.PRUNED]
    assert [trial.state for trial in shown] == states
    assert [trial.value for trial in shown[1:4]] == pytest.approx([0.6, 0.7, 0.8])
    assert shown[4].value is None


@pytest.mark.parametrize(
    ("grid", "space", "reason"),
    [
        ({"x": [0.0, 0.5]}, PLANE, "GridSampler cannot search x, y: .*y, is not found"),
        ({"x": [0.0, 5.0], "y": [0.0]}, PLANE, "proposes {'x': 5.0, 'y': 0.0}, which the search"),
        (
            {"lr": [0.1], "schedule": ["constant", "zigzag"], "lr_period": [3]},
            SPACE,
            "cannot search lr, schedule, lr_period: 'zigzag' not in",
        ),
    ],
)
def test_what_cannot_be_searched_is_one_line_before_the_start(
    grid: dict[str, list[Any]], space: Space, reason: str
) -> None:
    sampler = GridSampler(grid, seed=0)
    with pytest.raises(UsageError, match=reason) as caught:
        check_sampler(sampler, space)
    assert "\n" not in str(caught.value)


def test_trying_a_sampler_out_leaves_it_as_it_was() -> None:
    sampler = TPESampler(seed=7)
    check_sampler(sampler, PLANE)
    search, fresh = (
        drive(searcher(PLANE, sampler=s, num_samples=5), lambda config: math.cos(config["x"]))
        for s in (sampler, TPESampler(seed=7))
    )
    assert search == fresh

"""What the samplers make of what they are told: hills found, crashes avoided, costs bounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from search.records.statuses import Status
from search.samplers.gp_sampler import GPSampler
from search.samplers.optuna_sampler import tpe
from search.samplers.trial import SearchTrial
from tests.searching import PLANE, Past, drive, searcher


def bowl(config: dict[str, Any]) -> float:
    return float(1 - (config["x"] - 0.7) ** 2 - (config["y"] - 0.2) ** 2)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "cmaes"])
def test_samplers_find_the_top_of_a_hill(sampler: str) -> None:
    search = searcher(PLANE, sampler=sampler, num_samples=60)
    configs = drive(search, bowl)
    assert max(bowl(config) for config in configs) > 0.99
    if sampler == "gp":
        assert max(bowl(config) for config in configs) > 0.9999
    if sampler in ("gp", "tpe"):
        late = [bowl(config) for config in configs[-30:]]
        assert np.median(late) > np.median([bowl(config) for config in configs[:10]])


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
@pytest.mark.parametrize("fault", [None, math.nan], ids=["exception", "nan"])
def test_a_region_that_crashes_is_avoided(
    sampler: str, fault: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best values lie at the edge of a region, a third of the space, where all trials fail."""

    def bad_trials() -> int:
        search = searcher(PLANE, sampler=sampler, num_samples=70, seed=1)
        drive(search, lambda c: fault if c["x"] > 2 / 3 else c["x"] + 0.1 * c["y"])
        statuses = [trial.status for trial in search.trials.values()]
        assert set(statuses) == {"completed", "failed" if fault is None else "diverged"}
        return statuses.count("failed") + statuses.count("diverged")

    told = bad_trials()
    monkeypatch.setattr(
        "search.samplers.optuna_sampler.BAD", ()
    )  # as FAIL, which Optuna's samplers ignore
    monkeypatch.setattr("search.samplers.gp_sampler.BAD", ())
    ignored = bad_trials()
    assert told < 0.75 * ignored


def test_a_sampler_sees_one_rung_and_bad_trials_as_worst() -> None:
    proposals = tpe(PLANE, "max", (1, 3, 9), 0)
    told: list[tuple[dict[int, float], Status]] = [
        ({1: 0.1, 2: 0.2, 3: 0.3}, "paused"),
        ({1: 0.2, 2: 0.3, 3: 0.4, 4: 0.9}, "running"),
        ({1: 0.3, 2: 0.4, 3: 0.5}, "stopped"),
        ({1: 0.05}, "stopped"),
        ({1: 0.05}, "diverged"),
        ({}, "failed"),
        ({}, "running"),
    ]
    trials = [
        SearchTrial(f"t{number:04d}", {"x": 0.1 * number, "y": 0.5}, "sampler", values, status)
        for number, (values, status) in enumerate(told)
    ]
    outside = SearchTrial("t0007", {"x": 2.0, "y": 0.5}, "baseline", {1: 0.9, 3: 0.9}, "completed")
    view = proposals._view([*trials, outside])
    assert [(trial.state, trial.values) for trial in view] == [
        (TrialState.COMPLETE, [0.3]),
        (TrialState.COMPLETE, [0.4]),
        (TrialState.COMPLETE, [0.5]),
        (TrialState.PRUNED, None),
        (TrialState.PRUNED, None),
        (TrialState.RUNNING, None),
    ]


def test_tpe_groups_the_knobs_of_a_conditional_space() -> None:
    search = searcher(sampler="tpe", num_samples=60)
    configs = drive(search, lambda config: config.get("lr_period", 0) + config["lr"])
    assert max(config.get("lr_period", 0) for config in configs) >= 19


def test_warm_trials_guide_the_first_proposals() -> None:
    points = [{"x": x / 5, "y": y / 5} for x in range(6) for y in range(6)]
    warm = [Past(f"t{i:04d}", p, {9: {"valid_acc": bowl(p)}}) for i, p in enumerate(points)]
    search = searcher(PLANE, sampler="gp", warm=warm, num_samples=10)
    configs = drive(search, bowl)
    assert len(configs) == 10
    assert np.median([bowl(config) for config in configs]) > 0.99


def test_a_model_and_a_view_hold_a_bounded_part_of_a_long_search() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(2000):
        values = dict.fromkeys([1] if number % 3 else [1, 3, 9], float(rng.random()))
        config = {"x": float(rng.random()), "y": float(rng.random())}
        trials.append(SearchTrial(f"t{number:04d}", config, "sampler", values, "stopped"))
    assert len(tpe(PLANE, "max", (1, 3, 9), 0)._view(trials)) == 250
    sampler = GPSampler(PLANE, "max", (1, 3, 9), 3)
    assert sampler.propose(trials, lambda config: True) is not None
    assert sampler.model is not None
    assert len(sampler.model.y) == 160
    assert {1.0, 0.0} < set(sampler.model.s.tolist())

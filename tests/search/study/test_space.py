"""Search spaces: ranges as text, conditions, edges, and configurations as points."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.samplers.encoding import Encoding
from search.study.ranges import parse_range
from search.study.space import (
    Space,
    When,
    check_space,
    contains,
    grid,
    key,
    outside,
    project,
    suggest,
    without,
)

SPACE: Space = {
    "lr": FloatDistribution(1e-3, 1.0, log=True),
    "schedule": CategoricalDistribution(["constant", "step"]),
    "lr_period": When("schedule", ("step",), IntDistribution(2, 20)),
    "batch_size": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.0, 0.5),
}
BASELINE = {
    "lr": 0.1,
    "schedule": "step",
    "lr_period": 10,
    "batch_size": 64,
    "dropout": 0.0,
    "seed": 0,
}


@pytest.mark.parametrize(
    ("spec", "kind", "expected"),
    [
        ("lr=1e-3..0.5:log", None, FloatDistribution(1e-3, 0.5, log=True)),
        ("batch_size=64,128,256", None, CategoricalDistribution([64, 128, 256])),
        ("hidden=0..512", None, IntDistribution(0, 512)),
        ("hidden=0..500:64", None, IntDistribution(0, 448, step=64)),
        ("hidden=1..512:log", int, IntDistribution(1, 512, log=True)),
        ("dropout=0..1", float, FloatDistribution(0.0, 1.0)),
        ("dropout=0..0.5:0.1", None, FloatDistribution(0.0, 0.5, step=0.1)),
        ("lr=0.1..0.3:0.1", float, FloatDistribution(0.1, 0.3, step=0.1)),
        ("lr=0.1..0.35:0.1", float, FloatDistribution(0.1, 0.3, step=0.1)),
        ("lr=0.1..0.3:0.2", float, FloatDistribution(0.1, 0.3, step=0.2)),
        ("lr=-1..1e0", None, FloatDistribution(-1.0, 1.0)),
        ("schedule = constant, step", None, CategoricalDistribution(["constant", "step"])),
        ("nesterov=true,false", None, CategoricalDistribution([True, False])),
        ("name=1,2", str, CategoricalDistribution(["1", "2"])),
    ],
)
def test_ranges_are_read(spec: str, kind: type | None, expected: BaseDistribution) -> None:
    name, distribution = parse_range(spec, kind)
    assert name == spec.split("=")[0].strip()
    assert distribution == expected


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("lr", None),
        ("=1..2", None),
        ("lr=", None),
        ("lr=1..", None),
        ("lr=a..b", None),
        ("lr=1..nan", None),
        ("lr=2..1", None),
        ("lr=0..1:log", None),
        ("lr=0..1:0", None),
        ("lr=0..1:2", None),
        ("lr=0..1:lin", None),
        ("hidden=0.5..3", int),
        ("hidden=1,x", int),
        ("lr=1", None),
        ("lr=1,,2", None),
        ("lr=1,1", None),
    ],
)
def test_a_wrong_range_is_one_clear_line(spec: str, kind: type | None) -> None:
    with pytest.raises(ValueError, match="range '") as caught:
        parse_range(spec, kind)
    assert "\n" not in str(caught.value)
    assert repr(spec) in str(caught.value)


def test_a_conditional_knob_exists_only_under_its_condition() -> None:
    assert list(project(SPACE, BASELINE)) == list(SPACE)
    constant = project(SPACE, {**BASELINE, "schedule": "constant"})
    assert "lr_period" not in constant
    assert contains(SPACE, constant)
    assert not contains(SPACE, {**constant, "schedule": "step"})


def test_a_condition_on_a_condition_and_on_nothing() -> None:
    nested: Space = {**SPACE, "extra": When("lr_period", (2,), IntDistribution(0, 1))}
    check_space(nested)
    assert "extra" in project(nested, {**BASELINE, "lr_period": 2, "extra": 1})
    assert "extra" not in project(nested, {**BASELINE, "schedule": "constant", "lr_period": 2})
    with pytest.raises(ValueError, match="'lr_period' depends on 'schedule'"):
        check_space({"lr_period": SPACE["lr_period"], "schedule": SPACE["schedule"]})


def test_project_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="lacks lr_period"):
        project(SPACE, {name: value for name, value in BASELINE.items() if name != "lr_period"})


def test_outside_names_the_knobs_beyond_their_range() -> None:
    assert outside(SPACE, BASELINE) == []
    assert outside(SPACE, {**BASELINE, "lr": 2.0, "batch_size": 100}) == ["lr", "batch_size"]
    stepped: Space = {"a": IntDistribution(0, 10, step=5), "b": FloatDistribution(0, 1, step=0.1)}
    assert outside(stepped, {"a": 3, "b": 0.3}) == ["a"]
    assert outside(stepped, {"a": 5, "b": 0.35}) == ["b"]
    assert outside(stepped, {"a": True, "b": float("nan")}) == ["a", "b"]


def test_a_fixed_knob_decides_its_children() -> None:
    assert without(SPACE, "schedule", "step")["lr_period"] == IntDistribution(2, 20)
    assert "lr_period" not in without(SPACE, "schedule", "constant")
    nested: Space = {**SPACE, "extra": When("lr_period", (2,), IntDistribution(0, 1))}
    assert "extra" not in without(nested, "schedule", "constant")


def test_a_finite_space_is_listed_without_repetition() -> None:
    small: Space = {
        "schedule": CategoricalDistribution(["constant", "step"]),
        "lr_period": When("schedule", ("step",), IntDistribution(1, 3)),
    }
    points = grid(small)
    assert points is not None
    assert {key(point) for point in points} == {
        key({"schedule": "constant"}),
        *(key({"schedule": "step", "lr_period": period}) for period in (1, 2, 3)),
    }
    assert len(points) == 4
    assert grid(SPACE) is None


def test_a_step_is_taken_as_it_is_written() -> None:
    """0.1 + 2 x 0.1 is 0.30000000000000004: above the range, and a second name for 0.3."""
    name, knob = parse_range("lr=0.1..0.3:0.1", float)
    space: Space = {name: knob, "dropout": FloatDistribution(0.0, 0.4, step=0.1)}
    points = grid(space)
    assert points is not None
    assert {point["lr"] for point in points} == {0.1, 0.2, 0.3}
    assert {point["dropout"] for point in points} == {0.0, 0.1, 0.2, 0.3, 0.4}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    encoding = Encoding(space)
    draws = encoding.draw(100, np.random.default_rng(0))
    for configs in (
        [suggest(study.ask(), space) for _ in range(100)],
        [encoding.config(draw) for draw in draws],
    ):
        assert {key(config) for config in configs} == {key(point) for point in points}


def test_optuna_suggests_inside_the_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    configs = [suggest(study.ask(), SPACE) for _ in range(50)]
    assert all(contains(SPACE, config) for config in configs)
    assert {"lr_period" in config for config in configs} == {True, False}


def test_points_and_configurations_are_each_others_inverse() -> None:
    space: Space = {
        **SPACE,
        "hidden": IntDistribution(0, 512, step=64),
        "width": IntDistribution(16, 512, log=True),
        "p": FloatDistribution(0.0, 0.5, step=0.1),
        "one": IntDistribution(3, 3),
    }
    encoding = Encoding(space)
    points = encoding.draw(300, np.random.default_rng(0))
    configs = [encoding.config(point) for point in points]
    assert all(contains(space, config) for config in configs)
    assert [encoding.config(encoding.point(config)) for config in configs[:50]] == [
        {name: pytest.approx(v) if isinstance(v, float) else v for name, v in config.items()}
        for config in configs[:50]
    ]
    assert {config["hidden"] for config in configs} == set(range(0, 513, 64))
    back = np.array([encoding.point(config) for config in configs])
    np.testing.assert_allclose(encoding.features(points), encoding.features(back), atol=1e-9)


def test_different_choices_are_one_apart_and_missing_knobs_do_not_count() -> None:
    encoding = Encoding(SPACE)
    rows = [
        encoding.point({**BASELINE, **changes})
        for changes in ({}, {"batch_size": 128}, {"schedule": "constant"})
    ]
    features = encoding.features(np.array(rows))
    assert np.linalg.norm(features[0] - features[1]) == pytest.approx(1.0)
    unused = {**BASELINE, "schedule": "constant", "lr_period": 3}
    same = encoding.features(np.array([encoding.point(unused)]))
    np.testing.assert_allclose(same[0], features[2])

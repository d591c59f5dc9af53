"""The searcher: what it proposes, what it tells samplers, and how it goes on after a stop."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray.tune.search import Searcher

from search.schedulers.asha import make_scheduler
from search.study.space import Space, When, contains, key
from tests.searching import BASELINE, SAMPLERS, SPACE, Past, drive, knobs, searcher


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_exactly_num_samples_distinct_trials_the_baseline_first(sampler: str) -> None:
    given = [({"lr": 0.5, "schedule": "constant"}, "warm_start"), (BASELINE, "user")]
    search = searcher(sampler=sampler, baseline=BASELINE, enqueue=given)
    configs = drive(search, lambda config: -abs(math.log10(config["lr"])))
    assert knobs(configs[0]) == {"lr": 0.1, "schedule": "step", "lr_period": 10}
    assert [c["_origin"] for c in configs[:3]] == ["baseline", "warm_start", "sampler"]
    assert [c["_trial_id"] for c in configs] == [f"t{number:04d}" for number in range(20)]
    assert len({key(knobs(config)) for config in configs}) == 20
    assert all(contains(SPACE, config) for config in configs)
    assert search.suggest("more") == Searcher.FINISHED


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_repeats_a_search_and_a_resume_does_not_repeat_a_configuration(sampler: str) -> None:
    def run(past: list[Past], num_samples: int) -> list[dict[str, Any]]:
        search = searcher(sampler=sampler, seed=3, past=past, num_samples=num_samples)
        return [knobs(config) for config in drive(search, lambda config: config["lr"])]

    first = run([], 15)
    assert run([], 15) == first
    past = [
        Past(f"t{number:04d}", config, {9: {"valid_acc": config["lr"]}})
        for number, config in enumerate(first)
    ]
    more = run(past, 30)
    assert len(more) == 15
    assert len({key(config) for config in [*first, *more]}) == 30


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_finite_space_is_exhausted_to_the_last_configuration(sampler: str) -> None:
    small: Space = {
        "schedule": CategoricalDistribution(["constant", "step"]),
        "lr_period": When("schedule", ("step",), IntDistribution(1, 11)),
    }
    search = searcher(small, sampler=sampler, num_samples=100)
    assert len(drive(search, lambda config: config.get("lr_period", 0))) == 12


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_every_knob_fixed_there_is_one_trial(sampler: str) -> None:
    search = searcher({}, sampler=sampler, baseline=BASELINE, num_samples=20)
    assert [config["_origin"] for config in drive(search, lambda config: 0.5)] == ["baseline"]
    assert search.exhausted == "the search space holds no further configuration"
    past = [Past("t0000", BASELINE, {9: {"valid_acc": 0.5}}, origin="baseline")]
    again = searcher({}, sampler=sampler, baseline=BASELINE, num_samples=20, past=past)
    assert again.suggest("ray") == Searcher.FINISHED


def test_a_baseline_outside_its_range_is_trial_0_all_the_same() -> None:
    search = searcher(baseline={**BASELINE, "lr": 5.0}, num_samples=30)
    configs = drive(search, lambda config: config["lr"])
    assert configs[0]["lr"] == 5.0
    assert all(config["lr"] <= 1.0 for config in configs[1:])


def test_unfinished_trials_go_on_first_under_their_own_name() -> None:
    past = [
        Past("t0000", BASELINE, {9: {"valid_acc": 0.5}}, origin="baseline"),
        Past("t0001", {**BASELINE, "lr": 0.2}, {4: {"valid_acc": 0.5}}, "lost", checkpoint="c4"),
        Past("t0002", {**BASELINE, "lr": 0.3}, {}, "failed"),
        Past("t0003", {**BASELINE, "lr": 0.4}, {2: {"valid_acc": 0.5}}, "running"),
    ]
    search = searcher(baseline=BASELINE, past=past, num_samples=6)
    configs = drive(search, lambda config: config["lr"])
    assert [c["_trial_id"] for c in configs] == ["t0001", "t0003", "t0004", "t0005"]
    assert configs[0]["_resume_from"] == "c4"
    assert knobs(configs[0]) == past[1].config  # whole, with the knobs that are not searched
    assert configs[1]["_resume_from"] is None
    assert {trial.status for trial in search.trials.values()} == {"completed", "failed"}


def test_trials_that_an_earlier_session_paused_return_when_they_are_promoted() -> None:
    past = [
        Past("t0000", {**BASELINE, "lr": 0.2}, {1: {"valid_acc": 0.2}}, "paused", checkpoint="c"),
        Past("t0001", {**BASELINE, "lr": 0.3}, {1: {"valid_acc": 0.3}}, "lost", checkpoint="d"),
    ]
    search = searcher(past=past, num_samples=3, scheduler="promoting", grace_period=1)
    scheduler = make_scheduler(search)
    new = search.suggest("ray0")
    assert isinstance(new, dict)
    assert new["_trial_id"] == "t0002"
    assert search.suggest("ray1") is None  # floor(2 / 3) = 0 may go on, and one runs
    assert scheduler.decide("t0002", 1, 0.1) == "PAUSE"
    promoted = search.suggest("ray1")
    assert isinstance(promoted, dict)
    assert promoted["_trial_id"] == "t0001"
    assert promoted["_resume_from"] == "d"


def test_max_concurrent_is_counted_without_the_paused() -> None:
    search = searcher(max_concurrent=2, scheduler="promoting", grace_period=1)
    assert isinstance(search.suggest("a"), dict)
    assert isinstance(search.suggest("b"), dict)
    assert search.suggest("c") is None
    search.pause("t0000")
    assert isinstance(search.suggest("c"), dict)
    assert search.suggest("d") is None


def test_as_many_as_there_is_room_for_and_one_more_are_handed_out() -> None:
    room = 2
    search = searcher(slots=lambda: room)
    assert [isinstance(search.suggest(str(n)), dict) for n in range(4)] == [True] * 3 + [False]
    room = 3  # a node has joined
    assert isinstance(search.suggest("3"), dict)
    assert search.suggest("4") is None
    search.on_trial_complete("0", {"epoch": 9, "valid_acc": 0.5})
    assert isinstance(search.suggest("4"), dict)


def test_wrong_settings_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="unknown scheduler 'hyperband'"):
        searcher(scheduler="hyperband")
    with pytest.raises(ValueError, match="unknown sampler 'grid'"):
        searcher(sampler="grid")
    with pytest.raises(ValueError, match="cmaes needs numbers only"):
        searcher(sampler="cmaes")


def ray_trial(config: dict[str, Any], levels: tuple[int, ...] = (1, 3)) -> None:
    """Accuracy grows with x; where it starts is reported, and a checkpoint at each rung."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None and config["_resume_from"]:
        checkpoint = tune.Checkpoint(config["_resume_from"])
    start = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            start = json.loads(Path(folder, "epoch.json").read_text())
    for epoch in range(start + 1, 10):
        metrics = {"epoch": epoch, "valid_acc": config["x"] * epoch, "start": start}
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "epoch.json").write_text(json.dumps(epoch))
            at_rung = epoch in levels
            saved = tune.Checkpoint.from_directory(folder) if at_rung else None
            tune.report(metrics, checkpoint=saved)


@pytest.fixture
def ray_session() -> Iterator[None]:
    import ray

    environment = {"RAY_AIR_NEW_OUTPUT": "0", "RAY_AUTH_MODE": "disabled"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[3])}},
        )
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_promoting_on_ray_resumes_each_trial_from_its_rung(
    tmp_path: Path, ray_session: None
) -> None:
    from ray import tune

    search = searcher(
        {"x": FloatDistribution(0.0, 1.0)}, scheduler="promoting", grace_period=1, num_samples=18
    )
    results = tune.Tuner(
        ray_trial,
        tune_config=tune.TuneConfig(
            search_alg=search, scheduler=make_scheduler(search), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert len(results) == len(search.trials) == 18
    starts = {1: 0, 3: 1, 9: 3}  # epoch of the last report -> epoch of the checkpoint before
    for result in results:
        assert result.metrics is not None
        assert result.metrics["start"] == starts[result.metrics["epoch"]]
    assert {trial.status for trial in search.trials.values()} == {"completed", "stopped"}
    assert all(contains(search.space, trial.config) for trial in search.trials.values())


def test_spaces_of_plain_distributions_type_check() -> None:
    plain: dict[str, BaseDistribution | When] = {"x": FloatDistribution(0, 1)}
    assert len(drive(searcher(plain, num_samples=2), lambda config: config["x"])) == 2

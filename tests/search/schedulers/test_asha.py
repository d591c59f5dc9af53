"""Rungs by hand-worked examples, and the schedulers with their searcher on a simulated clock."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from search.samplers.trial import SearchTrial
from search.schedulers.asha import PlainScheduler, make_scheduler
from search.schedulers.rungs import Rungs
from search.schedulers.searcher import AshaSearcher
from search.schedulers.verdict import NoRetries, Verdict
from search.study.rung_levels import rung_levels
from search.study.space import Space
from tests.benchmarks.simulator import SimulatedTrial, Simulation
from tests.searching import Past

SPACE: Space = {"quality": FloatDistribution(0.0, 1.0)}
EPOCHS = 27


def curve(config: dict[str, Any]) -> np.ndarray:
    """Better configurations are better from the first epoch on."""
    return np.array([config["quality"] * (1 - math.exp(-e / 9)) for e in range(1, EPOCHS + 1)])


def pair(scheduler: str, **settings: Any) -> tuple[AshaSearcher, Any]:
    settings = {"num_samples": 30, "grace_period": 1, "sampler": "random", **settings}
    searcher = AshaSearcher(
        SPACE, metric="valid_acc", mode="max", num_epochs=EPOCHS, scheduler=scheduler, **settings
    )
    return searcher, make_scheduler(searcher)


@pytest.mark.parametrize(
    ("epochs", "grace", "factor", "levels"),
    [
        (52, 3, 3, (3, 9, 27)),
        (27, 1, 3, (1, 3, 9)),
        (20, 2, 3, (2, 6)),  # 18 is too close to the end
        (20, 4, 4, (4,)),
        (4, 3, 3, (3,)),
        (3, 3, 3, ()),
        (2, 5, 3, ()),
        (10, 1, 1.5, (1, 2, 3, 5, 8)),
    ],
)
def test_levels(epochs: int, grace: int, factor: float, levels: tuple[int, ...]) -> None:
    assert rung_levels(epochs, grace, factor) == levels


def test_levels_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="grace_period"):
        rung_levels(10, 0, 3)
    with pytest.raises(ValueError, match="reduction_factor"):
        rung_levels(10, 1, 1)


def test_promotions_follow_algorithm_2_by_hand() -> None:
    """Li et al. 2020, Algorithm 2, eta = 3: each line is worked out on paper."""
    rungs = Rungs((1, 3, 9), 3, "max", pausing=True)

    def arrive(trial_id: str, epoch: int, value: float) -> str | None:
        assert rungs.record(trial_id, epoch, value) is not None
        rungs.pause(trial_id)
        return rungs.promotable()

    assert arrive("a", 1, 0.5) is None  # floor(1/3) = 0 may go on
    assert arrive("b", 1, 0.6) is None  # floor(2/3) = 0
    assert arrive("c", 1, 0.4) == "b"  # floor(3/3) = 1: the best of a, b, c
    rungs.promote("b")
    assert rungs.promotable() is None
    assert arrive("d", 1, 0.9) == "d"  # still 1, and now that is d: b went on too early
    rungs.promote("d")
    assert arrive("e", 1, 0.1) is None  # 5 trials: 1, which is d, promoted
    assert arrive("f", 1, 0.7) == "f"  # 6 trials: 2, d and f
    rungs.promote("f")
    assert arrive("b", 3, 0.65) is None  # rung 1: floor(1/3) = 0; rung 0: d and f have gone
    assert arrive("d", 3, 0.95) is None  # rung 1: floor(2/3) = 0
    assert arrive("f", 3, 0.75) == "d"  # rung 1: 1 of b, d, f
    assert arrive("g", 1, 0.8) == "d"  # g is among the 2 of 7, but the higher rung goes first
    rungs.promote("d")
    assert rungs.promotable() == "g"
    rungs.promote("g")
    assert rungs.promotable() is None
    assert arrive("g", 3, 0.70) is None  # rung 1: 1 of 4, d, which has gone
    assert arrive("d", 9, 0.99) is None  # rung 2: floor(1/3) = 0
    assert rungs.leader() == "d"  # were the search to end here, d would be finished
    assert rungs.paused == {"a", "b", "c", "d", "e", "f", "g"}


def test_losses_are_better_the_lower_they_are() -> None:
    rungs = Rungs((1,), 2, "min", pausing=True)
    for trial_id, loss in (("a", 3.0), ("b", 1.0)):
        rungs.record(trial_id, 1, loss)
        rungs.pause(trial_id)
    assert rungs.promotable() == "b"


def test_a_trial_that_has_ended_is_not_promoted_but_still_counts() -> None:
    rungs = Rungs((1,), 3, "max", pausing=True)
    for trial_id, value in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        rungs.record(trial_id, 1, value)
        rungs.pause(trial_id)
    rungs.drop("c")
    assert rungs.promotable() is None
    assert rungs.scores[0]["c"] == 0.3


def test_the_best_sound_trial_is_finished_at_the_end() -> None:
    rungs = Rungs((1, 3), 3, "max", pausing=True)
    for trial_id, values in {"a": (0.1,), "b": (0.2, 0.3), "c": (0.3, 0.9), "d": (0.8,)}.items():
        for epoch, value in zip((1, 3), values, strict=False):
            rungs.record(trial_id, epoch, value)
        rungs.pause(trial_id)
    assert rungs.leader() == "c"
    rungs.drop("c", bad=True)  # it crashed on the way
    assert rungs.leader() == "b"
    rungs.drop("b", bad=True)
    assert rungs.leader() == "d"
    rungs.drop("d")  # it was trained in full
    assert rungs.leader() is None


def test_a_report_that_jumps_over_a_level_counts_at_both() -> None:
    rungs = Rungs((1, 3, 9), 3, "max")
    assert rungs.record("a", 4, 0.5) == 1
    assert [list(scores) for scores in rungs.scores] == [["a"], ["a"], []]
    assert rungs.record("a", 5, 0.6) is None
    assert rungs.scores[1] == {"a": 0.5}


def test_stopping_cuts_below_the_percentile_of_the_others() -> None:
    rungs = Rungs((1,), 4, "max")
    outcomes = []
    for trial_id, value in (("a", 0.5), ("b", 0.4), ("c", 0.6), ("d", 0.55), ("e", 0.54)):
        rungs.record(trial_id, 1, value)
        outcomes.append(rungs.below_cutoff(trial_id, 0))
    # 75 % quantiles of those before: none, .5, .475, .55 (an equal goes on), .5625
    assert outcomes == [False, True, False, False, True]


def test_stopping_decides_as_rays_scheduler_does() -> None:
    rng = np.random.default_rng(0)
    searcher, ours = pair("asha", reduction_factor=3)
    rays = ASHAScheduler("epoch", "valid_acc", "max", EPOCHS, 1, 3)
    alive = [SimulatedTrial(f"r{i}", {"_trial_id": f"t{i:04d}"}, np.empty(0), 1) for i in range(60)]
    for trial in alive:
        rays.on_trial_add(None, trial)
    decisions: Counter[str] = Counter()
    while alive:
        trial = alive[rng.integers(len(alive))]
        trial.epoch += 1
        result = {"epoch": trial.epoch, "valid_acc": float(rng.random())}
        decision = ours.on_trial_result(None, trial, result)
        assert decision == rays.on_trial_result(None, trial, result)
        decisions[decision] += 1
        if decision == TrialScheduler.STOP:
            alive.remove(trial)
    assert decisions[TrialScheduler.CONTINUE] > 60


@pytest.mark.parametrize("scheduler", ["promoting", "asha", "none"])
@pytest.mark.parametrize("max_concurrent", [None, 1, 3])
def test_a_search_ends_with_every_trial_ended(scheduler: str, max_concurrent: int | None) -> None:
    searcher, bound = pair(scheduler, max_concurrent=max_concurrent, baseline={"quality": 0.5})
    simulation = Simulation(searcher, bound, curve, num_workers=4)
    simulation.run(10**6)
    assert simulation.finished
    assert len(searcher.trials) == 30
    assert {trial.status for trial in searcher.trials.values()} <= {"completed", "stopped"}
    assert not searcher.running
    assert not searcher.rungs.paused
    best = max(searcher.trials.values(), key=lambda trial: trial.config["quality"])
    assert best.status == "completed"  # the best trial seen is trained in full
    if scheduler == "none":
        assert all(trial.epoch == EPOCHS for trial in searcher.trials.values())
    else:
        assert sum(trial.epoch for trial in searcher.trials.values()) < 0.5 * 30 * EPOCHS


def test_promoting_pauses_at_rungs_and_promotes_a_third_of_each() -> None:
    searcher, bound = pair("promoting", num_samples=81)
    Simulation(searcher, bound, curve, num_workers=4).run(10**6)
    epochs = Counter(trial.epoch for trial in searcher.trials.values())
    assert set(epochs) <= {1, 3, 9, 27}
    reached = [sum(n for e, n in epochs.items() if e >= level) for level in (1, 3, 9, 27)]
    assert reached[0] == 81
    for below, above in zip(reached, reached[1:], strict=False):
        assert below // 3 <= above <= 0.45 * below + 2  # some too early, as the paper has it


def test_the_least_promising_is_the_worst_of_the_lowest_rung_and_never_who_is_next() -> None:
    rungs = Rungs((1, 3), 3, "max", pausing=True)
    for number, value in enumerate([0.5, 0.9, 0.1, 0.3, 0.7, 0.2]):
        rungs.record(f"t{number}", 1, value)
        rungs.pause(f"t{number}")
    rungs.promote("t1")
    rungs.record("t1", 3, 0.95)
    rungs.pause("t1")
    order = []
    while (trial_id := rungs.least_promising()) is not None:
        order.append(trial_id)
        rungs.drop(trial_id)
    assert order == ["t2", "t5", "t3", "t0"]
    assert rungs.promotable() == "t4"  # two of six may go on
    assert rungs.leader() == "t1"


class Desk:
    """Room for the checkpoints of so many trials."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.ended: list[str] = []

    def crowded(self, waiting: Iterable[str]) -> bool:
        return len(set(waiting)) > self.most

    def end(self, trial_id: str, status: str) -> None:
        self.ended.append(trial_id)


def test_while_checkpoints_take_too_much_the_worst_that_wait_end() -> None:
    searcher, _ = pair("promoting")
    simulation = Simulation(searcher, make_scheduler(searcher, Desk(4)), curve, num_workers=4)
    waiting = []
    while not simulation.finished or searcher.running:
        simulation.run(1)
        waiting.append(len(searcher.rungs.paused))
    assert max(waiting) == 4
    assert len(searcher.trials) == 30
    assert not searcher.rungs.paused
    best = max(searcher.trials.values(), key=lambda trial: trial.config["quality"])
    assert best.status == "completed"


def test_so_do_those_of_an_earlier_session() -> None:
    past = [
        Past(f"t{n:04d}", {"quality": n / 9}, {1: {"valid_acc": n / 99}}, "paused")
        for n in range(4)
    ]
    searcher, _ = pair("promoting", past=past)
    desk = Desk(2)
    make_scheduler(searcher, desk).choose_trial_to_run(None)
    assert desk.ended == ["t0000", "t0001"]
    assert [trial.status for trial in searcher.trials.values()][:2] == ["stopped", "stopped"]


def test_no_more_than_max_concurrent_run_at_once() -> None:
    searcher, bound = pair("promoting", max_concurrent=2)
    simulation = Simulation(searcher, bound, curve, num_workers=8)
    simulation.run(40)
    assert sum(trial.status == "RUNNING" for trial in simulation.trials) == 2


@pytest.mark.parametrize("limit", [{"max_concurrent": 2}, {"slots": lambda: 1}])
def test_a_trial_that_is_promoted_comes_before_a_new_one(limit: dict[str, Any]) -> None:
    searcher, bound = pair("promoting", **limit)
    Simulation(searcher, bound, curve, num_workers=2).run(20)
    assert len(searcher.trials) < 20
    assert max(trial.epoch for trial in searcher.trials.values()) >= 3


def test_nothing_new_starts_while_a_trial_waits_for_a_gpu_of_its_own() -> None:
    judge = Strict(Verdict(None, "out of memory", alone=True))
    searcher, bound = pair("none", slots=lambda: 8, judge=judge)
    config = searcher.suggest("ray0")
    assert isinstance(config, dict)
    assert not config["_alone"]
    fail(searcher, bound, "ray0", config)
    again = searcher.suggest("ray1")
    assert isinstance(again, dict)
    assert again["_alone"]
    alone = SimulatedTrial("ray1", again, np.empty(0), 1)
    bound.on_trial_add(None, alone)
    assert searcher.suggest("ray2") is None
    alone.status = "RUNNING"
    assert isinstance(searcher.suggest("ray2"), dict)


class Strict(NoRetries):
    """Gives its verdicts one after the other, whatever happened."""

    def __init__(self, *verdicts: Verdict, troubled: bool = False) -> None:
        self.verdicts = iter(verdicts)
        self.in_trouble = troubled

    def judge(self, trial: Trial) -> Verdict:
        return next(self.verdicts)

    def troubled(self) -> bool:
        return self.in_trouble


def fail(
    searcher: AshaSearcher, bound: PlainScheduler, ray_id: str, config: dict[str, Any]
) -> None:
    """Ray tells scheduler and searcher of an error."""
    trial = Trial("toy", config=config, trial_id=ray_id, stub=True)
    trial.run_metadata.num_failures = 1
    bound.on_trial_error(None, trial)
    searcher.on_trial_complete(ray_id, error=True)


def test_a_trial_in_the_machines_trouble_is_handed_out_again_later_with_its_checkpoint() -> None:
    later = time.monotonic() + 3600
    judge = Strict(Verdict(None, "full", not_before=later), Verdict(None, "full"))
    searcher, bound = pair(
        "none",
        num_samples=2,
        judge=judge,
        last_checkpoint=lambda trial_id: f"checkpoint of {trial_id}",
    )
    first, second = searcher.suggest("ray0"), searcher.suggest("ray1")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    fail(searcher, bound, "ray0", first)
    assert searcher.suggest("ray2") is None
    fail(searcher, bound, "ray1", second)
    again = searcher.suggest("ray3")
    assert isinstance(again, dict)
    assert again["_trial_id"] == second["_trial_id"]
    assert again["_resume_from"] == f"checkpoint of {second['_trial_id']}"
    searcher.on_trial_complete("ray3", {"epoch": 9, "valid_acc": 0.5})
    assert searcher.suggest("ray4") is None  # the first one still waits: not the end


def test_nothing_new_is_proposed_while_the_machine_is_in_trouble() -> None:
    later = time.monotonic() + 3600
    judge = Strict(Verdict(None, "full", not_before=later), troubled=True)
    searcher, bound = pair("none", judge=judge)
    config = searcher.suggest("ray0")  # nothing waits to be tried again yet
    assert isinstance(config, dict)
    fail(searcher, bound, "ray0", config)
    assert searcher.suggest("ray1") is None


def test_a_lost_trial_is_not_told_as_bad_and_a_failed_one_is() -> None:
    judge = Strict(Verdict("lost", "full"), Verdict("failed", "no"))
    searcher, bound = pair("none", judge=judge)
    for ray_id in ("ray0", "ray1"):
        config = searcher.suggest(ray_id)
        assert isinstance(config, dict)
        fail(searcher, bound, ray_id, config)
    assert [trial.status for trial in searcher.trials.values()] == ["lost", "failed"]
    assert not searcher.running


@pytest.mark.parametrize("scheduler", ["promoting", "asha", "none"])
@pytest.mark.parametrize("name", ["valid_acc", "train_loss"])
def test_a_value_that_is_not_finite_stops_its_trial_at_once(scheduler: str, name: str) -> None:
    searcher, bound = pair(scheduler)
    config = searcher.suggest("ray0")
    assert isinstance(config, dict)
    trial = SimulatedTrial("ray0", config, np.empty(0), 1)
    result = {"epoch": 1, "valid_acc": 0.5, "train_loss": 1.0, name: math.nan}
    assert bound.on_trial_result(None, trial, result) == TrialScheduler.STOP
    searcher.on_trial_complete("ray0", result)
    assert searcher.trials["t0000"].status == "diverged"
    assert searcher.trials["t0000"].values == {}
    assert all(not scores for scores in searcher.rungs.scores)


def test_choosing_is_idempotent_until_the_trial_runs() -> None:
    searcher, bound = pair("promoting")
    trials = []
    for number in range(3):
        config = searcher.suggest(f"ray{number}")
        assert isinstance(config, dict)
        trial = SimulatedTrial(f"ray{number}", config, np.empty(0), 1, status="RUNNING")
        bound.on_trial_add(None, trial)
        trials.append(trial)
    for trial, value in zip(trials, (0.1, 0.3, 0.2), strict=True):
        assert bound.choose_trial_to_run(None) is None
        decision = bound.on_trial_result(None, trial, {"epoch": 1, "valid_acc": value})
        assert decision == TrialScheduler.PAUSE
        trial.status = "PAUSED"
    assert [bound.choose_trial_to_run(None) for _ in range(3)] == [trials[1]] * 3
    trials[1].status = "PENDING"
    assert bound.choose_trial_to_run(None) is trials[1]
    trials[1].status = "RUNNING"
    assert bound.choose_trial_to_run(None) is None
    assert searcher.running == {"t0001"}


def test_rungs_survive_a_resume() -> None:
    """What earlier sessions did, in any state, stands in the rungs as if nothing had happened."""
    past = [
        SearchTrial("t0000", {}, "sampler", {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}, "lost"),
        SearchTrial("t0001", {}, "sampler", {1: 0.2}, "paused"),
        SearchTrial("t0002", {}, "sampler", {1: 0.3}, "stopped"),
        SearchTrial("t0003", {}, "sampler", {1: 0.05, 2: 0.06}, "failed"),
        SearchTrial("t0004", {}, "sampler", {1: 0.1, 2: 0.2, 3: 0.35}, "running"),
        SearchTrial("t0005", {}, "sampler", {}, "running"),
    ]
    rungs = Rungs((1, 3, 9), 3, "max", pausing=True)
    rungs.replay(past)
    assert rungs.scores[0] == {
        "t0000": 0.1,
        "t0001": 0.2,
        "t0002": 0.3,
        "t0003": 0.05,
        "t0004": 0.1,
    }
    assert rungs.scores[1] == {"t0000": 0.3, "t0004": 0.35}
    assert rungs.promoted == [{"t0000", "t0003", "t0004"}, {"t0000"}, set()]
    assert rungs.paused == {"t0001", "t0004"}
    stopping = Rungs((1, 3, 9), 3, "max")
    stopping.replay(past)
    assert stopping.paused == set()
    assert stopping.scores == rungs.scores

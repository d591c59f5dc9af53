"""Trials that run to their last epoch whatever their rank: presets and audited ones."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution

from search.samplers.trial import SearchTrial
from search.schedulers.asha import make_scheduler
from search.schedulers.whole import WholeBudget
from search.study.space import Space
from tests.searching import Past, searcher

SPACE: Space = {"x": FloatDistribution(0.0, 1.0)}
PRESET = ({"x": 0.5}, "user")


def trial(number: int, origin: str = "sampler") -> SearchTrial:
    return SearchTrial(f"t{number:04d}", {}, origin)


def test_a_share_is_drawn_by_seed_and_number() -> None:
    def drawn(seed: int, share: float) -> list[int]:
        trials = [trial(number) for number in range(1000)]
        for each in trials:
            WholeBudget(audit_share=share, seed=seed).draw(each)
        return [number for number, each in enumerate(trials) if each.audited]

    assert drawn(0, 0.0) == []
    assert drawn(0, 1.0) == list(range(1000))
    assert 70 < len(drawn(0, 0.1)) < 130  # four standard deviations
    assert drawn(0, 0.1) == drawn(0, 0.1)
    assert drawn(0, 0.1) != drawn(1, 0.1)
    assert set(drawn(0, 0.1)) < set(drawn(0, 0.2))


@pytest.mark.parametrize("finish", [True, False])
def test_baseline_and_presets_need_no_audit(finish: bool) -> None:
    whole = WholeBudget(finish_presets=finish, audit_share=1.0)
    given = {origin: trial(1, origin) for origin in ("baseline", "user", "warm_start", "sampler")}
    for each in given.values():
        whole.draw(each)
        assert whole.covers(each)
    assert [each.audited for each in given.values()] == [False, not finish, True, True]


@pytest.mark.parametrize("scheduler", ["promoting", "asha"])
@pytest.mark.parametrize("finish", [True, False])
def test_presets_finish_whatever_their_rank(scheduler: str, finish: bool) -> None:
    whole = WholeBudget(finish_presets=finish, audit_share=0.0)
    search = searcher(
        SPACE, scheduler=scheduler, grace_period=1, whole=whole, enqueue=[PRESET], num_samples=9
    )
    for number in range(9):
        search.suggest(f"ray{number}")
    decide = make_scheduler(search).decide
    for number in range(1, 9):
        decide(f"t{number:04d}", 1, 0.9 + number / 100)
    assert search.trials["t0000"].config == {"x": 0.5}
    ends = {"promoting": "PAUSE", "asha": "STOP"}
    assert decide("t0000", 1, 0.1) == ("CONTINUE" if finish else ends[scheduler])
    assert search.rungs.scores[0]["t0000"] == 0.1  # it is compared with the others all the same


def test_audited_trials_are_marked_and_never_wait() -> None:
    search = searcher(
        SPACE, scheduler="promoting", grace_period=1, whole=WholeBudget(audit_share=0.5, seed=3)
    )
    scheduler = make_scheduler(search)
    outcomes = set()
    for number in range(20):
        config = search.suggest(f"ray{number}")
        assert isinstance(config, dict)
        outcomes.add((config["_audited"], scheduler.decide(config["_trial_id"], 1, 0.0)))
    assert outcomes == {(True, "CONTINUE"), (False, "PAUSE")}


@pytest.mark.parametrize("audited", [True, False])
def test_a_resume_keeps_what_was_drawn(audited: bool) -> None:
    """Recorded in the ledger, whatever share the resumed search has."""
    looks = {1: {"valid_acc": 0.2}}
    past = [
        Past("t0000", {"x": 0.1}, looks, "paused", checkpoint="c", audited=audited),
        Past("t0001", {"x": 0.2}, {1: {"valid_acc": 0.3}}, "paused", checkpoint="d"),
    ]
    whole = WholeBudget(audit_share=0.0)
    search = searcher(SPACE, scheduler="promoting", grace_period=1, past=past, whole=whole)
    assert search.rungs.paused == ({"t0001"} if audited else {"t0000", "t0001"})
    first = search.suggest("ray0")
    assert isinstance(first, dict)
    assert first["_trial_id"] == ("t0000" if audited else "t0002")
    assert first["_audited"] is audited
    assert first["_resume_from"] == ("c" if audited else None)

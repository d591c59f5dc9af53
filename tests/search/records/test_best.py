"""The best trial and its tie rule."""

from __future__ import annotations

import itertools
import math

import pytest

from search.records.best import choose_best, ranking
from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.statuses import Status


def trial(number: int, acc: float, loss: float = 1.0, status: Status = "completed") -> TrialRecord:
    history = {1: {"valid_acc": acc, "valid_loss": loss}}
    return TrialRecord(f"t{number:04d}", {"lr": 0.1}, status=status, history=history)


def best_id(trials: list[TrialRecord], metric: str = "valid_acc", mode: str = "max") -> str:
    best = choose_best({t.trial_id: t for t in trials}, metric, mode)
    assert best is not None
    return str(best["trial_id"])


def test_equals_go_by_the_loss_then_by_the_number_whatever_the_order() -> None:
    trials = [trial(0, 0.5, 0.1), trial(1, 0.9, 0.4), trial(2, 0.9, 0.3), trial(3, 0.9, 0.3)]
    for order in itertools.permutations(trials):
        assert best_id(list(order)) == "t0002"
        names = [t.record.trial_id for t in ranking(order, "valid_acc", "max")]
        assert names == ["t0002", "t0003", "t0001", "t0000"]


def test_a_loss_that_is_not_finite_loses_a_tie() -> None:
    assert best_id([trial(0, 0.9, math.nan), trial(1, 0.9, 2.0)]) == "t0001"


def test_a_falling_metric() -> None:
    assert best_id([trial(0, 0.9, 0.4), trial(1, 0.8, 0.3)], "valid_loss", "min") == "t0001"
    assert oriented(0.25, "min") == -0.25
    assert oriented(0.25, "max") == 0.25


def test_trials_that_ran_their_full_budget_come_first() -> None:
    trials = [trial(0, 0.5), trial(1, 0.9, status="stopped")]
    assert best_id(trials) == "t0000"
    assert best_id(trials[1:]) == "t0001"
    assert choose_best({}, "valid_acc", "max") is None


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_one_that_failed_or_diverged_is_never_the_best(status: Status) -> None:
    good, bad = trial(0, 0.5, status="stopped"), trial(1, 0.9, status=status)
    assert best_id([good, bad]) == "t0000"
    assert choose_best({bad.trial_id: bad}, "valid_acc", "max") is None

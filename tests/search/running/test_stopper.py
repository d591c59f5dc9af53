"""When the whole search stops: time, plateau, signals."""

from __future__ import annotations

import os
import signal
import time

import pytest

from search.command_line.interrupts import SIGNALS
from search.records.ledger import TrialRecord
from search.records.statuses import Status
from search.running.stopper import Budget, exit_code


def ended(number: int, accuracy: float, status: Status = "completed") -> TrialRecord:
    """A trial that ended with this accuracy."""
    history = {1: {"valid_acc": accuracy}}
    return TrialRecord(f"t{number:04d}", {}, status=status, history=history)


def budget(seconds: float | None = None, patience: int | None = None, mode: str = "max") -> Budget:
    return Budget(seconds, patience, "valid_acc", mode)


def test_a_plateau_is_counted_from_the_last_better_trial() -> None:
    watched = budget(patience=2)
    for number, accuracy in enumerate([0.5, 0.4, 0.6, 0.6]):  # an equal one is no improvement
        watched.count(ended(number, accuracy))
        assert not watched.stop_all()
    watched.count(ended(4, 0.55))
    assert watched.stop_all()
    assert watched.reason == "no improvement in 2 finished trials"


def test_lower_is_better_where_the_metric_says_so() -> None:
    watched = budget(patience=1, mode="min")
    for number, loss in enumerate([0.5, 0.4, 0.3]):
        watched.count(ended(number, loss))
    assert not watched.stop_all()
    watched.count(ended(3, 0.35))
    assert watched.stop_all()


def test_what_has_not_ended_does_not_count() -> None:
    watched = budget(patience=1)
    watched.count(ended(0, 0.5))
    watched.count(ended(1, 0.1, "lost"))
    assert not watched.stop_all()


def test_the_time_budget_is_wall_time() -> None:
    watched = budget(seconds=0.05)
    assert not watched.stop_all()
    time.sleep(0.06)
    assert watched.stop_all()
    assert watched.reason == "time budget of 0 s reached"


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_stops_the_search_and_the_handlers_come_back(kind: signal.Signals) -> None:
    before = signal.getsignal(kind)
    watched = budget()
    with watched.signals():
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # as Ray Tune takes it
        watched.listen()
        os.kill(os.getpid(), kind)
        assert watched.stop_all()
    assert watched.reason == f"interrupted by {kind.name}"
    assert exit_code(watched.reason) == 128 + kind
    assert signal.getsignal(kind) is before


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        watched = budget()
        with watched.signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not watched.stop_all()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_exit_codes() -> None:
    watched = budget()
    watched.give_up("5 trials in a row failed alike: ValueError")
    watched.give_up("another reason")
    assert watched.reason == "given up: 5 trials in a row failed alike: ValueError"
    assert exit_code(watched.reason) == 1
    assert exit_code("time budget of 4 s reached") == 0
    assert exit_code(None) == 0

"""What Optuna is told of ended trials, and the journal that the dashboard opens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.running.optuna_journal import frozen_trial, open_journal, write_journal
from tests.searching import BASELINE, SPACE, Past


def ended() -> list[Past]:
    accuracies = {1: {"valid_acc": 0.3}, 2: {"valid_acc": 0.6}, 3: {"valid_acc": 0.5}}
    nan = {1: {"valid_acc": 0.3}, 2: {"valid_acc": math.nan}}
    return [
        Past("t0000", {**BASELINE, "lr": 7.0}, accuracies, origin="baseline"),
        Past("t0001", {**BASELINE, "schedule": "constant"}, accuracies, "stopped"),
        Past("t0002", BASELINE, nan, "diverged"),
        Past("t0003", {**BASELINE, "schedule": "cosine"}, {}, "failed", error="MemoryError: 9 GiB"),
    ]


def test_optuna_is_told_the_truth() -> None:
    completed, stopped, diverged, failed = (
        frozen_trial(record, SPACE, "valid_acc") for record in ended()
    )
    assert (completed.state, completed.value) == (TrialState.COMPLETE, 0.5)
    assert completed.params["lr"] == 7.0  # outside its range, and shown all the same
    assert completed.user_attrs == {
        "trial_id": "t0000",
        "status": "completed",
        "reason": "completed",
        "epochs": 3,
        "origin": "baseline",
    }
    assert stopped.state == TrialState.PRUNED
    assert stopped.intermediate_values == {1: 0.3, 2: 0.6, 3: 0.5}
    assert "lr_period" not in stopped.params
    assert (diverged.state, diverged.intermediate_values) == (TrialState.PRUNED, {})
    assert diverged.user_attrs["status"] == "diverged"
    assert diverged.user_attrs["epochs"] == 2
    assert failed.state == TrialState.PRUNED
    assert failed.user_attrs["reason"] == "MemoryError: 9 GiB"
    assert "schedule" not in failed.params
    with pytest.raises(ValueError, match="t0009 is lost"):
        frozen_trial(Past("t0009", BASELINE, status="lost"), SPACE, "valid_acc")


def test_the_journal_opens_in_optuna_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    unfinished = Past("t0009", BASELINE, status="running")
    for _ in range(2):  # written anew, not merged
        write_journal(path, "toy", [*ended(), unfinished], SPACE, "valid_acc", "max")
    study = open_journal(path, "toy", "max")
    study.add_trial(frozen_trial(ended()[1], SPACE, "valid_acc"))
    again = open_journal(path, "toy", "max")
    states = [trial.state for trial in again.trials]
    assert states == [TrialState.COMPLETE, *[TrialState.PRUNED] * 4]
    assert again.best_trial.user_attrs["trial_id"] == "t0000"
    assert [file.name for file in tmp_path.iterdir()] == ["study.journal"]

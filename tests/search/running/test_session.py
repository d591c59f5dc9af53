"""Whole searches on real Ray with synthetic trials: records, interruption, resume, extension."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import Search, load
from search.records.best import BASELINE
from search.records.statuses import FINISHED
from search.records.tables import COLUMNS

TOY = Path(__file__).parents[2] / "toy.py"


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits prepared under the toy task's name."""
    data = tmp_path_factory.mktemp("data")
    prepare(LAYOUT, None, data / "toy")
    return data


def command(data: Path, results: Path, *options: str) -> list[str]:
    """`resnet-tune search` on the toy study, as a user would type it."""
    folders = ["--data", str(data), "--results", str(results), "--name", "one"]
    return [sys.executable, "-m", "search", "search", str(TOY), *folders, *options]


def search(data: Path, results: Path, *options: str, code: int = 0) -> Search:
    """Run a search to its end in a process of its own, and open it."""
    done = subprocess.run(command(data, results, *options), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return load(results / "toy" / "one")


def optuna_states(found: Search) -> dict[str, TrialState]:
    """The journal's trials by our ids."""
    storage = JournalStorage(JournalFileBackend(str(found.path / "study.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    return {trial.user_attrs["trial_id"]: trial.state for trial in study.trials}


def check_consistent(found: Search, num_samples: int) -> None:
    """Every trial has an end, tables and journal tell what the ledger tells."""
    trials = pd.read_csv(found.path / "trials.csv")
    assert list(trials.columns[: len(COLUMNS)]) == COLUMNS
    assert trials["trial_id"].tolist() == [f"t{i:04d}" for i in range(num_samples)]
    assert set(trials["status"]) <= FINISHED
    assert trials["status"].tolist() == [record.status for record in found.records.values()]
    history = pd.read_csv(found.path / "history.csv")
    assert history.groupby("trial_id")["epoch"].max().to_dict() == {
        trial_id: record.epochs for trial_id, record in found.records.items() if record.epochs
    }
    states = optuna_states(found)
    assert set(states) == set(found.records)
    for trial_id, record in found.records.items():
        wanted = TrialState.COMPLETE if record.status == "completed" else TrialState.PRUNED
        assert states[trial_id] == wanted
    assert found.info.status == "finished"
    assert not found.running


@pytest.mark.parametrize("scheduler", ["promoting", "asha", "none"])
def test_a_search_ends_with_every_trial_accounted_for(
    toy_data: Path, tmp_path: Path, scheduler: str
) -> None:
    found = search(toy_data, tmp_path, "--set", f"scheduler={scheduler}")
    check_consistent(found, 12)
    assert found.records[BASELINE].config["quality"] == 0.5
    assert found.records[BASELINE].origin == "baseline"
    assert found.records[BASELINE].status == "completed"  # the number to beat is never stopped
    statuses = found.trials["status"].value_counts().to_dict()
    if scheduler == "none":
        assert statuses == {"completed": 12}
    else:
        assert statuses["completed"] >= 1
        assert statuses["stopped"] >= 1
    best = json.loads((found.path / "best.json").read_text())
    completed = found.trials[found.trials["status"] == "completed"]
    assert best["metrics"]["valid_acc"] == completed["valid_acc"].max()
    configs = [json.dumps(record.config) for record in found.records.values()]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("nan", "diverged", None),
        ("exception", "failed", 'RuntimeError: a <script> "quoted", comma,'),
        ("oom", "failed", "MemoryError: out of memory: 9 GiB wanted"),
    ],
)
def test_a_fault_is_told_and_costs_only_its_trial(
    toy_data: Path, tmp_path: Path, fault: str, status: str, reason: str | None
) -> None:
    found = search(
        toy_data,
        tmp_path,
        *("--set", f"fault={fault}", "--set", "fault_below=0.4", "--num-samples", "8"),
        *("--max-failures", "0", "--set", "grace_period=3"),
    )
    check_consistent(found, 8)
    hurt = [record for record in found.records.values() if record.config["quality"] < 0.4]
    assert hurt
    assert {record.status for record in hurt} == {status}
    if reason is not None:
        assert all((record.error or "").startswith(reason) for record in hurt)
        assert all(record.error for record in hurt)
    assert all(r.status != status for r in found.records.values() if r not in hurt)


def test_a_process_that_dies_while_it_is_made_ready_for_a_trial_costs_nothing(
    toy_data: Path, tmp_path: Path
) -> None:
    found = search(
        toy_data,
        tmp_path,
        *("--set", "fault=kill_reused", "--set", "fault_below=1", "--num-samples", "5"),
        *("--cpus-per-trial", "2"),
    )
    check_consistent(found, 5)
    assert set(found.trials["status"]) <= {"completed", "stopped"}
    assert any(record.restarts for record in found.records.values())


def test_an_interrupted_search_is_resumed_and_extended(toy_data: Path, tmp_path: Path) -> None:
    started = subprocess.Popen(
        command(toy_data, tmp_path, "--set", "epoch_seconds=0.15"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for_ends(tmp_path / "toy" / "one", 3)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert f"resnet-tune search {TOY} --name one --resume --data {toy_data}" in errors
    cut = load(tmp_path / "toy" / "one")
    assert cut.info.status == "interrupted"
    assert "lost" in set(pd.read_csv(cut.path / "trials.csv")["status"])
    before = ended(cut)
    found = search(toy_data, tmp_path, "--resume")
    check_consistent(found, 12)
    assert before.items() <= ended(found).items()
    assert found.records[BASELINE].config["epoch_seconds"] == 0.15  # --set is remembered
    extended = search(toy_data, tmp_path, "--resume", "--num-samples", "16")
    check_consistent(extended, 16)
    assert ended(found).items() <= ended(extended).items()


@pytest.mark.parametrize("seed", range(2))
def test_after_kill_9_of_the_driver_nothing_finished_is_lost(
    toy_data: Path, tmp_path: Path, seed: int
) -> None:
    kill_and_resume(toy_data, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(2, 20))
def test_kill_9_at_many_moments(toy_data: Path, tmp_path: Path, seed: int) -> None:
    kill_and_resume(toy_data, tmp_path, seed)


def kill_and_resume(data: Path, results: Path, seed: int) -> None:
    """Kill the driver at a random moment after its first finished trial, then resume."""
    trace = results / "trace"
    options = ["--set", "epoch_seconds=0.1", "--set", f"trace={trace}", "--seed", str(seed)]
    started = subprocess.Popen(
        command(data, results, *options), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    search_dir = results / "toy" / "one"
    wait_for_ends(search_dir, 1)
    time.sleep(random.Random(seed).uniform(0, 4))
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    killed = load(search_dir)
    assert not killed.running
    assert set(killed.trials["status"]) <= FINISHED | {"lost"}
    before = ended(killed)
    assert before
    started_before = len(trace.read_text().splitlines())
    found = search(data, results, "--resume")
    check_consistent(found, 12)
    assert before.items() <= ended(found).items()
    again = [line.split()[0] for line in trace.read_text().splitlines()[started_before:]]
    assert not set(again) & set(before), "a finished trial ran again"


def ended(found: Search) -> dict[str, tuple[str, str]]:
    """What must never change: status and history of the trials that have ended."""
    return {
        trial_id: (record.status, json.dumps(record.history))
        for trial_id, record in found.records.items()
        if record.status in FINISHED
    }


def wait_for_ends(search_dir: Path, count: int) -> None:
    """Until so many trials have ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (search_dir / "search.json").exists() and len(ended(load(search_dir))) >= count:
            return
        time.sleep(0.1)
    raise AssertionError(f"{count} trials had not ended within a minute")


def test_a_running_search_can_be_looked_at_but_not_driven_twice(
    toy_data: Path, tmp_path: Path
) -> None:
    started = subprocess.Popen(
        command(toy_data, tmp_path, "--set", "epoch_seconds=1"),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_ends(tmp_path / "toy" / "one", 1)
        shown = load(tmp_path / "toy" / "one")
        assert shown.running
        assert {"running"} < set(shown.trials["status"])
        again = subprocess.run(
            command(toy_data, tmp_path, "--resume"), capture_output=True, text=True
        )
        assert again.returncode == 1
        assert "another process is running" in again.stderr
    finally:
        started.terminate()
        assert started.wait(timeout=60) == 143


def test_time_budget_and_patience_cut_and_say_so(toy_data: Path, tmp_path: Path) -> None:
    cut = search(toy_data, tmp_path / "a", "--set", "epoch_seconds=1", "--time-budget", "12s")
    assert cut.stop_reason == "time budget of 12 s reached"
    assert len(ended(cut)) < 12  # on a busy machine not one may have started
    plateau = search(toy_data, tmp_path / "b", "--patience", "3", "--num-samples", "60")
    assert plateau.stop_reason == "no improvement in 3 finished trials"
    assert len(plateau.records) < 60


def test_other_data_is_refused(toy_data: Path, tmp_path: Path) -> None:
    search(toy_data, tmp_path, "--num-samples", "1")
    other = tmp_path / "other"
    prepare(LAYOUT, None, other / "toy", seed=1)
    done = subprocess.run(command(other, tmp_path, "--resume"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "was run on other data than" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_warm_start_runs_the_best_of_an_earlier_search_first(
    toy_data: Path, tmp_path: Path
) -> None:
    earlier = search(toy_data, tmp_path / "a")
    best = earlier.best
    assert best is not None
    found = search(
        toy_data, tmp_path / "b", "--warm-start", str(earlier.path), "--num-samples", "6"
    )
    check_consistent(found, 6)
    origins = [record.origin for record in found.records.values()]
    assert origins[:2] == ["baseline", "warm_start"]
    assert found.records["t0001"].config["quality"] == best["config"]["quality"]
    wrong = subprocess.run(
        command(toy_data, tmp_path / "c", "--warm-start", str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1
    assert "no search in" in wrong.stderr


def test_a_changed_range_keeps_the_old_trials(toy_data: Path, tmp_path: Path) -> None:
    before = search(toy_data, tmp_path, "--num-samples", "6")
    narrow = ["--resume", "--num-samples", "10", "--range", "quality=0.8..1.0"]
    after = search(toy_data, tmp_path, *narrow)
    check_consistent(after, 10)
    assert ended(before).items() <= ended(after).items()
    new = [r for r in after.records.values() if r.trial_id not in before.records]
    assert all(0.8 <= record.config["quality"] <= 1.0 for record in new)

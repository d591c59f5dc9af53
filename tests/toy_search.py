"""Searches of the toy study: run in this process, or as a command in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search import Search, load
from search.records.statuses import FINISHED
from search.records.tables import COLUMNS
from tests.commands import resnet_tune

TOY = Path(__file__).parent / "toy.py"


def words(data: Path, results: Path, *options: str) -> list[str]:
    """What `resnet-tune` is told."""
    folders = ["--data", str(data), "--results", str(results), "--name", "one"]
    return ["search", str(TOY), *folders, *options]


def search(data: Path, results: Path, *options: str, code: int = 0) -> Search:
    """Run a search to its end in this process, and open it."""
    resnet_tune(*words(data, results, *options), code=code)
    return load(results / "toy" / "one")


def start(data: Path, results: Path, *options: str) -> subprocess.Popen[str]:
    """Start a search in a process of its own, as a user would type it."""
    return subprocess.Popen(
        [sys.executable, "-m", "search", *words(data, results, *options)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # a group of its own, as a terminal or a job makes one
    )


def copied(found: Search, results: Path) -> Path:
    """The results folder of a copy of a finished search, to go on with."""
    shutil.copytree(found.path, results / "toy" / "one")
    return results


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


def ended(found: Search) -> dict[str, tuple[str, str]]:
    """What must never change: status and history of the trials that have ended."""
    return {
        trial_id: (record.status, json.dumps(record.history))
        for trial_id, record in found.records.items()
        if record.status in FINISHED
    }


def wait_for_ends(search_dir: Path, count: int) -> None:
    """Until so many trials have ended."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if (search_dir / "search.json").exists() and len(ended(load(search_dir))) >= count:
            return
        time.sleep(0.1)
    raise AssertionError(f"{count} trials had not ended within three minutes")

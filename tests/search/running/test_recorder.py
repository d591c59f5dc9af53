"""The recorder driven by hand: Ray's own trial objects, a ledger and checkpoints on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from search import load
from search.cluster.environment import Place
from search.cluster.node_data import NodeData
from search.cluster.storage import Storage
from search.finishing.choice import chosen
from search.finishing.own_model import final_checkpoint
from search.records.ledger import Ledger, TrialRecord, read_ledger
from search.review.report import single_page
from search.review.table import format_trials
from search.running.outcomes import OutcomeFiles
from search.running.recorder import Recorder
from search.running.retries import Retries, Trouble
from search.running.stopper import Budget
from search.running.trial_function import TrialError
from search.running.trouble import OWN_ERROR, STORAGE
from search.running.tuner import make_recorder
from search.study.loading import load_study
from tests.ledgers import make_search

EPOCHS = 3


@dataclass
class Desk:
    """A recorder with what it was told to do."""

    folder: Path
    reason: str | None = None
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        self.recorder = Recorder(
            self.ledger,
            {"lr": 0.1, "momentum": 0.9},
            EPOCHS,
            "valid_acc",
            stop_reason=lambda: self.reason,
            on_end=lambda record: self.ended.append(record.trial_id),
            on_tables=lambda: None,
            storage=Storage(str(self.folder)),
            retries=Retries(self.ledger.records, 1, lambda trouble: None, lambda: False),
        )

    def start(self, number: int) -> Trial:
        """A trial that has started."""
        trial_id = f"t{number:04d}"
        config = {"_trial_id": trial_id, "_origin": "sampler", "lr": 0.5}
        trial = Trial("toy", config=config, trial_id=f"ray{number}", stub=True)
        self.recorder.on_trial_start(0, [], trial)
        return trial

    def report(self, trial: Trial, epoch: int, accuracy: float, **more: Any) -> None:
        """An epoch."""
        result = {"epoch": epoch, "valid_acc": accuracy, "valid_loss": 1 - accuracy, **more}
        trial.run_metadata.last_result = result
        self.recorder.on_trial_result(0, [], trial, result)

    def checkpoint(self, trial: Trial, name: str) -> Path:
        """A checkpoint of the epoch just reported."""
        folder = self.folder / "ray" / f"{trial.config['_trial_id']}-{name}" / "checkpoint_000000"
        folder.mkdir(parents=True)
        (folder / "state.pt").write_text(name)
        self.recorder.on_checkpoint(0, [], trial, Checkpoint.from_directory(folder))
        return folder

    def complete(self, trial: Trial) -> None:
        """Ray says that the trial is over."""
        self.recorder.on_trial_complete(0, [], trial)

    def fail(self, trial: Trial, error: TrialError) -> None:
        """Ray says that the trial raised."""
        self.recorder.retries.verdicts[trial.trial_id] = self.recorder.retries.decide(
            trial.config["_trial_id"], Trouble(error.kind, error.text)
        )
        self.recorder.on_trial_error(0, [], trial)

    def read(self, trial: Trial) -> TrialRecord:
        """What another process reads of the trial."""
        return read_ledger(self.folder / "ledger.jsonl")[trial.config["_trial_id"]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A recorder with an empty ledger."""
    made = Desk(tmp_path)
    yield made
    made.ledger.close()


def test_a_whole_trial_reads_back_as_it_was(desk: Desk) -> None:
    trial = desk.start(0)
    for epoch in (1, 2, 3):
        desk.report(trial, epoch, epoch / 10, device="cpu", training_iteration=epoch)
    desk.complete(trial)
    record = desk.read(trial)
    assert record.status == "completed"
    assert record.config == {"lr": 0.5, "momentum": 0.9}
    assert record.origin == "sampler"
    assert record.history[2] == {"valid_acc": 0.2, "valid_loss": 0.8}
    assert record.facts == {"device": "cpu"}
    assert desk.ended == ["t0000"]


def test_facts_are_written_once(desk: Desk) -> None:
    trial = desk.start(0)
    for epoch in (1, 2):
        desk.report(trial, epoch, 0.1, device="cpu")
    assert (desk.folder / "ledger.jsonl").read_text().count('"device"') == 1


def test_the_end_says_why(desk: Desk) -> None:
    stopped, diverged = desk.start(0), desk.start(1)
    desk.report(stopped, 1, 0.1)
    desk.complete(stopped)
    desk.report(diverged, 1, math.nan)
    desk.complete(diverged)
    assert desk.read(stopped).status == "stopped"
    assert desk.read(diverged).status == "diverged"


def test_only_the_last_checkpoint_of_a_trial_is_kept(desk: Desk) -> None:
    trial = desk.start(0)
    desk.report(trial, 1, 0.1)
    first = desk.checkpoint(trial, "one")
    desk.report(trial, 2, 0.2)
    second = desk.checkpoint(trial, "two")
    assert not first.exists()
    assert second.exists()
    kept = "ray/t0000-two/checkpoint_000000"  # relative: the folder may be moved
    assert (desk.read(trial).checkpoint, desk.read(trial).checkpoint_epoch) == (kept, 2)
    desk.complete(trial)  # stopped: nothing goes on from it
    assert not second.exists()


def test_of_completed_trials_the_checkpoints_of_the_chosen_are_kept(desk: Desk) -> None:
    folders = []
    for number in range(2):
        trial = desk.start(number)
        desk.report(trial, EPOCHS, 0.5)
        folders.append(desk.checkpoint(trial, f"c{number}"))
        desk.complete(trial)
    desk.recorder.keep_only({"t0001"})
    assert [folder.exists() for folder in folders] == [False, True]


def test_an_interruption_leaves_running_trials_lost_and_paused_ones_paused(desk: Desk) -> None:
    running, paused, never = desk.start(0), desk.start(1), desk.start(2)
    for trial in (running, paused):
        desk.report(trial, 1, 0.1)
    folder = desk.checkpoint(running, "kept")
    paused.set_status(Trial.PAUSED)
    desk.recorder.on_step_end(0, [])
    desk.reason = "interrupted by SIGINT"
    for trial in (running, paused):
        desk.complete(trial)
    desk.recorder.settle()
    assert (desk.read(running).status, desk.read(running).error) == ("lost", desk.reason)
    assert desk.read(paused).status == "paused"
    assert desk.read(never).status == "lost"
    assert folder.exists()  # what a resume goes on from
    assert desk.ended == []


def test_what_waits_at_a_rung_when_the_search_is_over_has_lost(desk: Desk) -> None:
    trial = desk.start(0)
    desk.report(trial, 1, 0.1)
    trial.set_status(Trial.PAUSED)
    desk.recorder.on_step_end(0, [])
    assert desk.read(trial).status == "paused"
    desk.recorder.settle()
    assert desk.read(trial).status == "stopped"
    assert desk.ended == ["t0000"]


def test_an_error_of_its_own_ends_a_trial(desk: Desk) -> None:
    trial = desk.start(0)
    desk.report(trial, 1, 0.1)
    folder = desk.checkpoint(trial, "gone")
    desk.fail(trial, TrialError(OWN_ERROR, "ValueError: no", reused=False, crowded=False))
    record = desk.read(trial)
    assert (record.status, record.error) == ("failed", "ValueError: no")
    assert desk.ended == ["t0000"]
    assert not folder.exists()


def test_the_machines_trouble_is_a_restart_and_then_lost_but_never_an_end(desk: Desk) -> None:
    error = TrialError(STORAGE, "OSError: full", reused=False, crowded=False)
    trial = desk.start(0)
    desk.report(trial, 1, 0.1)
    folder = desk.checkpoint(trial, "kept")
    desk.fail(trial, error)
    assert desk.read(trial).status == "running"
    assert desk.read(trial).restarts == ["OSError: full"]
    desk.recorder.retries.verdicts.clear()
    desk.fail(desk.start(0), error)
    desk.recorder.settle()
    assert (desk.read(trial).status, desk.read(trial).error) == ("lost", "OSError: full")
    assert desk.ended == []
    assert folder.exists()  # what a resume goes on from


def test_of_equal_trials_that_end_out_of_order_the_one_that_tables_name_is_kept(
    tmp_path: Path,
) -> None:
    """They start and end in other orders than their numbers; t0003 is as good, its loss higher."""
    study = load_study("digits")
    study = replace(study, config=replace(study.config, num_epochs=EPOCHS))
    folder = make_search(tmp_path / "digits" / "ties", trials=1, epochs=EPOCHS)
    (folder / "ledger.jsonl").unlink()
    place = Place({}, Storage(str(folder)), NodeData("", ""), None)
    desk = Desk(folder)
    budget = Budget(None, None, study.metric, study.mode)
    desk.recorder = make_recorder(
        study,
        folder,
        place,
        desk.ledger,
        budget,
        desk.recorder.retries,
        lambda record: None,
        OutcomeFiles(folder, place.storage, study.metric, study.mode),
    )
    trials = {number: desk.start(number) for number in (3, 2, 4, 1)}
    folders = {}
    for number, trial in trials.items():
        desk.report(trial, EPOCHS, 0.8, **({"valid_loss": 0.9} if number == 3 else {}))
        folders[number] = desk.checkpoint(trial, "a")
    for number in (2, 4, 3, 1):
        desk.complete(trials[number])
    desk.ledger.close()
    found = load(folder)
    assert found.best is not None
    assert found.best["trial_id"] == "t0001"
    assert [number for number, kept in folders.items() if kept.exists()] == [1]
    table = format_trials([found], style="csv").splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["t0001", "t0002", "t0004", "t0003"]
    told = single_page(found)
    assert json.loads(told["table"])["marks"] == ["best", "", "", ""]
    assert chosen(found, None)["trial_id"] == "t0001"
    assert final_checkpoint(found, "t0001") == str(folders[1])
    assert final_checkpoint(found, "t0002") is None

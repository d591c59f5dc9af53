"""The live view: lines in a pipe, a table that fits a terminal, and no way to kill the search."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.records.ledger import LEDGER, TrialRecord, apply_event
from search.records.statuses import Status
from search.running.live_view import LiveView
from search.running.progress import Progress
from tests.ledgers import make_search


@dataclass
class FakeTrial:
    """What the view reads of a Ray trial."""

    config: dict[str, Any]


@dataclass
class Stage:
    """A view on a console in memory, with a clock that the test turns."""

    terminal: bool
    num_samples: int = 40
    records: dict[str, TrialRecord] = field(default_factory=dict)
    time: float = 0.0

    def __post_init__(self) -> None:
        self.file = io.StringIO()
        console = Console(
            file=self.file,
            force_terminal=self.terminal,
            width=80,
            height=24,
            color_system=None,
            legacy_windows=False,
        )
        self.view = LiveView(
            self.records,
            "valid_acc",
            "max",
            self.num_samples,
            9,
            5.0 * self.num_samples,
            console,
            clock=lambda: self.time,
        )

    @property
    def text(self) -> str:
        return self.file.getvalue()

    def play(self, ledger: Path) -> None:
        """Feed the ledger's events to the records and then to the view, as a search does."""
        self.view.setup()
        first = None
        for line in ledger.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            first = first or entry["time"]
            self.time = entry["time"] - first
            apply_event(self.records, entry)
            trial: Any = FakeTrial({"_trial_id": entry.get("trial")})
            match entry["event"]:
                case "start":
                    self.view.on_trial_start(0, [], trial)
                case "report":
                    self.view.on_trial_result(0, [], trial, entry["metrics"])
                case "end":
                    self.view.on_trial_complete(0, [], trial)
            self.view.on_step_end(0, [])


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return make_search(tmp_path / "digits" / "first") / LEDGER


def test_a_pipe_gets_a_line_a_trial_and_a_summary_a_minute(ledger: Path) -> None:
    stage = Stage(terminal=False)
    stage.play(ledger)
    lines = stage.text.splitlines()
    ended = [r for r in stage.records.values() if r.status != "running"]
    assert sum(line.startswith("t0") for line in lines) == len(ended)
    summaries = [line for line in lines if "trials ended" in line]
    assert len(summaries) == pytest.approx(stage.time / 60, abs=1)
    assert "epochs saved by early stopping" in summaries[-1]
    assert "left;" in summaries[-1]
    assert "best t0000 valid_acc 0.9793" in summaries[-1]
    assert "\x1b" not in stage.text
    assert any("failed" in line and "out of memory" in line for line in lines)


def test_a_terminal_gets_a_table_that_fits(ledger: Path) -> None:
    stage = Stage(terminal=True)
    stage.play(ledger)
    frames = stage.text.split("trials ended,")
    assert len(frames) > 40
    last = frames[-1].splitlines()
    assert max(len(line) for line in last if "\x1b" not in line) <= 80
    assert "unlike the baseline" in frames[-1]
    assert "running" in frames[-1]
    stage.view.on_experiment_end([])
    assert "\x1b[?25h" in stage.text  # the cursor is back
    before = stage.text
    stage.view.stop()
    assert stage.text == before


def test_how_trials_compute_is_told_once_for_each_kind_of_machine(ledger: Path) -> None:
    stage = Stage(terminal=False)
    facts = {"device": "cpu", "precision": "bfloat16", "threads": 1, "path": "features"}
    for number, device in enumerate(("cpu", "cpu", "cuda:0")):
        record = TrialRecord(f"t{number:04d}", {}, history={1: {"valid_acc": 0.5}})
        record.facts = {**facts, "device": device, "threads": number // 2 + 1}
        stage.records[record.trial_id] = record
        stage.view.on_trial_result(0, [], FakeTrial({"_trial_id": record.trial_id}), {})
    assert stage.text.splitlines() == [
        "trials compute on cpu in bfloat16, 1 thread, from features",
        "trials compute on cuda:0 in bfloat16, 2 threads, from features",
    ]


def test_many_running_trials_do_not_outgrow_the_terminal() -> None:
    stage = Stage(terminal=True, num_samples=100)
    stage.view.setup()
    for number in range(60):
        trial_id = f"t{number:04d}"
        stage.records[trial_id] = TrialRecord(trial_id, {})
        trial: Any = FakeTrial({"_trial_id": trial_id})
        stage.view.on_trial_start(0, [], trial)
    stage.time = 5
    stage.view.on_step_end(0, [])
    frame = stage.text.split("trials ended,")[-1]
    assert len(frame.splitlines()) < 24
    assert "more running" in frame


def test_unfinished_trials_of_an_earlier_session_wait() -> None:
    stage = Stage(terminal=False)
    stage.records["t0000"] = TrialRecord("t0000", {}, status="running", history={1: {}})
    assert stage.view.progress.counts() == "1 waiting"


def test_stopped_trials_save_epochs_and_those_that_wait_may_not() -> None:
    stage = Stage(terminal=False, num_samples=8)  # 40 epochs are expected
    told: list[tuple[Status, int]] = [("paused", 1), ("completed", 9), ("stopped", 3)]
    for number, (status, epochs) in enumerate(told):
        history: dict[int, dict[str, float]] = {epoch: {} for epoch in range(1, epochs + 1)}
        trial_id = f"t{number:04d}"
        stage.records[trial_id] = TrialRecord(trial_id, {}, status=status, history=history)
        stage.time += 2.0 * epochs
        if status == "paused":
            assert stage.view.progress.saved() == "no epochs saved yet"
            assert stage.view.progress.left() == "about 1m18s left"  # 39 epochs of 2 s
    assert stage.view.progress.saved() == "6 epochs saved by early stopping (33%)"
    assert stage.view.progress.left() == "about 54s left"  # 40 - 13 epochs


def test_an_error_in_the_view_is_told_once_and_does_not_reach_ray() -> None:
    stage = Stage(terminal=False)
    unknown: Any = FakeTrial({"_trial_id": "t0042"})
    for _ in range(2):
        stage.view.on_trial_result(0, [], unknown, {})
    assert stage.text == "live view off (KeyError: 't0042'); the search goes on\n"


def test_a_closed_stream_does_not_reach_ray() -> None:
    stage = Stage(terminal=True)
    stage.view.setup()
    stage.file.close()
    stage.time = 5
    stage.view.on_step_end(0, [])
    stage.view.on_experiment_end([])


def test_hostile_text_cannot_steer_the_terminal() -> None:
    stage = Stage(terminal=False)
    record = TrialRecord("t0001", {"schedule": "a\x1b[2J\nb"}, status="failed", error="x\x1b[2J\ny")
    stage.records["t0001"] = record
    trial: Any = FakeTrial({"_trial_id": "t0001"})
    stage.view.on_trial_complete(0, [], trial)
    record.error = None
    stage.view.on_trial_complete(0, [], trial)
    assert "\x1b" not in stage.text
    assert len(stage.text.splitlines()) == 2


def test_ray_can_pickle_it_at_any_moment() -> None:
    view = LiveView(
        {}, "valid_acc", "max", 4, 9, 20, Console(file=io.StringIO(), force_terminal=True)
    )
    view.setup()
    copy = pickle.loads(pickle.dumps(view))
    copy.on_step_end(0, [])
    copy.on_experiment_end([])
    assert copy.console is None
    view.stop()


def test_runs_beyond_those_that_are_asked_for_are_counted() -> None:
    records = {name: TrialRecord(name, {}, status="completed") for name in ("a", "b", "c")}
    progress = Progress(records, "valid_acc", "max", 2, 9, 18.0)
    assert progress.summary().startswith("3/3 trials ended (3 completed)")

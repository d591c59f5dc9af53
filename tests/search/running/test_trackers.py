"""TensorBoard, optuna-dashboard and MLflow, started for real and asked over HTTP for a search."""

from __future__ import annotations

import importlib.util
import json
import pickle
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Callback

from search.errors import UsageError
from search.records.ledger import LEDGER, Ledger, TrialRecord, read_ledger
from search.running.optuna_journal import write_journal
from search.running.tensorboard import TensorBoard
from search.running.trackers import Harmless, require, trackers
from tests.ledgers import SPACE, make_search

PATIENCE = 90  # seconds for a server to come up on a busy machine


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@dataclass(frozen=True)
class FakeTrial:
    """What trackers read of a Ray trial."""

    trial_id: str

    @property
    def config(self) -> dict[str, Any]:
        return {"_trial_id": self.trial_id, "lr": 0.1}

    def __str__(self) -> str:
        return self.trial_id


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """A server on a free port (`{port}` in the command), until it answers; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = [word.replace("{port}", port) for word in command]
    log = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, *words], stdout=log, stderr=log) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(address)


def ask(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.fixture
def records(tmp_path: Path) -> dict[str, TrialRecord]:
    return read_ledger(make_search(tmp_path / "digits" / "first", trials=12) / LEDGER)


@needs("tensorboard")
def test_tensorboard_shows_metrics_and_hparams(
    tmp_path: Path, records: dict[str, TrialRecord]
) -> None:
    said: list[str] = []
    board = TensorBoard(records, tmp_path / "tb", "valid_acc", "max", said.append)
    board.setup()
    board.on_experiment_end([])
    assert said == []
    arguments = ["--logdir", str(tmp_path / "tb"), "--host", "127.0.0.1", "--port", "{port}"]
    with serving("-m", "tensorboard.main", *arguments, "--load_fast", "false") as address:
        deadline = time.monotonic() + PATIENCE
        tags: Any = {}
        while len(tags) < len(records) and time.monotonic() < deadline:
            tags = ask(f"{address}/data/plugin/scalars/tags")
            time.sleep(0.3)
        assert set(tags) == set(records)
        assert {"valid_acc", "valid_loss", "train_loss", "best/valid_acc"} <= set(tags["t0000"])
        query = "scalars?run=t0000&tag=valid_acc"
        points = ask(f"{address}/data/plugin/scalars/{query}")
        history = records["t0000"].history
        assert [step for _, step, _ in points] == sorted(history)
        assert points[-1][2] == pytest.approx(history[9]["valid_acc"])
        body = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 100,
        }
        groups = ask(f"{address}/data/plugin/hparams/session_groups", body)["sessionGroups"]
        ended = [r for r in records.values() if r.ended is not None]
        assert len(groups) == len(ended)
        rates = sorted(round(group["hparams"]["lr"], 6) for group in groups)
        assert rates == sorted(round(r.config["lr"], 6) for r in ended)


def test_event_files_grow_with_the_search_and_start_afresh(
    tmp_path: Path, records: dict[str, TrialRecord]
) -> None:
    folder = tmp_path / "tb"
    (folder / "t0042").mkdir(parents=True)
    board = TensorBoard(records, folder, "valid_acc", "max", lambda _: None)
    board.setup()
    assert not (folder / "t0042").exists()
    before = len(list(folder.rglob("*tfevents*")))
    board.on_experiment_end([])
    assert len(list(folder.rglob("*tfevents*"))) == before
    records["t0000"].history[10] = {"valid_acc": 0.5}
    board.on_experiment_end([])
    assert len(list(folder.rglob("*tfevents*"))) == before + 1
    pickle.loads(pickle.dumps(board)).on_experiment_end([])


def test_a_full_disk_switches_the_event_files_off(
    tmp_path: Path, records: dict[str, TrialRecord]
) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("")
    board = TensorBoard(records, tmp_path / "file" / "tb", "valid_acc", "max", said.append)
    board.setup()
    board.on_experiment_end([])
    assert len(said) == 1
    assert said[0].startswith("TensorBoard is off (")


@needs("optuna_dashboard")
def test_optuna_dashboard_opens_the_study(tmp_path: Path, records: dict[str, TrialRecord]) -> None:
    journal = tmp_path / "study.journal"
    ended = [record for record in records.values() if record.ended is not None]
    write_journal(journal, "digits", ended, dict(SPACE), "valid_acc", "max")
    arguments = ["--host", "127.0.0.1", "--port", "{port}", str(journal)]
    code = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    with serving("-c", code, *arguments) as address:
        studies = ask(f"{address}/api/studies")["study_summaries"]
        assert [study["study_name"] for study in studies] == ["digits"]
        study = ask(f"{address}/api/studies/{studies[0]['study_id']}?after=0")
        states = [trial["state"] for trial in study["trials"]]
        assert len(states) == len(ended)
        assert states.count("Complete") == sum(r.status == "completed" for r in ended)


class Broken(Callback):  # type: ignore[misc]
    """A tracker whose server has gone away."""

    def on_trial_start(self, *args: Any, **info: Any) -> None:
        raise ConnectionError("no route to host")


def test_a_tracker_that_fails_is_told_once_and_left_out() -> None:
    said: list[str] = []
    tracker = Harmless("MLflow", Broken(), said.append)
    trial: Any = FakeTrial("t0000")
    tracker.setup()
    tracker.on_trial_start(0, [], trial)
    tracker.on_trial_start(0, [], trial)
    assert said == ["MLflow is off (ConnectionError: no route to host); the search goes on"]
    pickle.loads(pickle.dumps(tracker)).on_trial_start(0, [], trial)


@needs("mlflow")
def test_a_server_that_does_not_answer_is_told_at_once() -> None:
    said: list[str] = []
    begun = time.monotonic()
    assert trackers("first", "http://me:secret@127.0.0.1:9/", None, said.append) == []
    assert time.monotonic() - begun < 20
    assert said == [
        "MLflow is off (http://***@127.0.0.1:9/: Connection refused); the search goes on"
    ]


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"--x needs nowhere: pip install 'resnet-tune\[nowhere\]'"
    ):
        require("nowhere", "--x")
    assert trackers("first", None, None, lambda _: None) == []


@pytest.mark.slow
@needs("mlflow")
@pytest.mark.filterwarnings("ignore")  # mlflow's own
def test_mlflow_has_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # processes of no use here
    store = f"sqlite:///{tmp_path}/mlflow.db"
    said: list[str] = []
    (tracker,) = trackers("digits/first", store, None, said.append)
    tracker.setup()
    trial: Any = FakeTrial("t0003")
    tracker.on_trial_start(0, [], trial)
    for epoch in (1, 2, 3):
        result = {"epoch": epoch, "valid_acc": 0.1 * epoch, "training_iteration": 1}
        tracker.on_trial_result(0, [], trial, result)
    tracker.on_trial_complete(0, [], trial)
    assert said == []
    arguments = ["--backend-store-uri", store, "--host", "127.0.0.1", "--port", "{port}"]
    with serving("-m", "mlflow", "server", *arguments, "--workers", "1") as address:
        api = f"{address}/api/2.0/mlflow"
        experiment = ask(f"{api}/experiments/get-by-name?experiment_name=digits%2Ffirst")
        ids = [experiment["experiment"]["experiment_id"]]
        (run,) = ask(f"{api}/runs/search", {"experiment_ids": ids})["runs"]
        assert {"key": "lr", "value": "0.1"} in run["data"]["params"]
        query = f"run_id={run['info']['run_id']}&metric_key=valid_acc"
        metrics = ask(f"{api}/metrics/get-history?{query}")["metrics"]
        assert [m["step"] for m in metrics] == [1, 2, 3]
        assert metrics[-1]["value"] == pytest.approx(0.3)


def test_a_trial_without_a_report_has_hparams_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    ledger.append("start", "t0000", config={"lr": 0.1, "odd": [1]}, origin="baseline")
    ledger.append("end", "t0000", status="failed", error="x")
    ledger.close()
    said: list[str] = []
    TensorBoard(ledger.records, tmp_path / "tb", "valid_acc", "max", said.append).setup()
    assert said == []
    assert len(list((tmp_path / "tb" / "t0000").iterdir())) == 1

"""Real searches while the machine is in trouble: nothing is lost, and no number is another one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import Search, load
from search.cli import guarded
from search.records.ledger import LEDGER, read_ledger
from search.records.statuses import FINISHED
from tests.commands import resnet_tune
from tests.disks import fill, small_disk
from tests.toy_search import search, start, words

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, in this process
TRIALS = 24
OUTAGE = 10.0  # seconds that a disk is full, and data is gone
PLAIN = ["--set", "sampler=random", "--set", "scheduler=none", "--num-epochs", "3"]
SLOW = ["--set", "epoch_seconds=0.3", "--set", "reads_data=true"]


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits prepared under the toy task's name."""
    data = tmp_path_factory.mktemp("data")
    prepare(LAYOUT, None, data / "toy")
    return data


def outcome(found: Search) -> dict[str, Any]:
    """What must not depend on the machine: what was tried, and how it scored."""
    return {
        trial_id: (
            record.config["quality"],
            record.config["lr"],
            record.status,
            [record.history[epoch]["valid_acc"] for epoch in sorted(record.history)],
        )
        for trial_id, record in found.records.items()
    }


def after(
    driver: subprocess.Popen[str], search_dir: Path, ends: int, act: Callable[[], None]
) -> None:
    """Act once so many trials of a running search have ended."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and driver.poll() is None:
        records = read_ledger(search_dir / LEDGER).values()
        if sum(record.status in FINISHED for record in records) >= ends:
            return act()
        time.sleep(0.2)
    raise AssertionError(f"{ends} trials had not ended: {driver.communicate()}")


def kill_worker(trace: Path) -> None:
    """kill -9 of the process that began the last trial."""
    os.kill(int(trace.read_text().splitlines()[-1].split()[2]), signal.SIGKILL)


def fill_disk(disk: Path) -> None:
    """The disk is full for a while."""
    hog = fill(disk)
    time.sleep(OUTAGE)
    hog.unlink()


def hide_data(data: Path) -> None:
    """The prepared data is gone for a while."""
    shutil.move(data / "toy", data / "away")
    time.sleep(OUTAGE)
    shutil.move(data / "away", data / "toy")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_befalls_the_machine_every_trial_ends_as_it_would_have(
    toy_data: Path, tmp_path: Path
) -> None:
    size = ["--num-samples", str(TRIALS)]
    calm = search(toy_data, tmp_path / "calm", *PLAIN, *size, "--set", "reads_data=true")
    lowest, second, *_ = sorted(record.config["quality"] for record in calm.records.values())
    breaks = ["--set", "fault=breaks", "--set", f"fault_below={(lowest + second) / 2}"]
    trace = tmp_path / "trace"
    with small_disk(tmp_path / "disk", "100m") as disk:
        weights = ["--set", "checkpoint_bytes=200000", "--set", f"trace={trace}"]
        options = [*PLAIN, *size, *SLOW, *breaks, *weights]
        driver = start(toy_data, disk, *options)
        search_dir = disk / "toy" / "one"
        after(driver, search_dir, 2, lambda: kill_worker(trace))
        after(driver, search_dir, 5, lambda: fill_disk(disk))
        after(driver, search_dir, 10, lambda: hide_data(toy_data))
        _, said = driver.communicate(timeout=600)
        assert driver.returncode == 0, said
        found = load(search_dir)
        assert outcome(found) == outcome(calm)
        assert {record.status for record in found.records.values()} == {"completed"}
        restarts = " ".join(text for r in found.records.values() for text in r.restarts)
    assert "worker process has died" in restarts
    assert "No space left on device" in restarts + said
    assert "out of reach" in restarts
    assert "device-side assert" in restarts


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that must not be there")
def test_a_device_that_is_not_there_costs_one_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(LAYOUT, None, tmp_path / "digits")
    folders = ["--data", str(tmp_path), "--results", str(tmp_path / "results"), "--name", "one"]
    assert guarded(["search", "digits", *folders, "--set", "device=cuda"], debug=False) == 1
    told = capsys.readouterr().err
    assert "one batch of the baseline fails where trials run: " in told
    assert len([line for line in told.splitlines() if "error" in line]) == 1
    assert not read_ledger(tmp_path / "results" / "digits" / "one" / LEDGER)


@pytest.mark.slow
def test_a_node_short_of_memory_is_not_the_trials_fault(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--num-samples", "4", "--max-failures", "1", "--set", "epoch_seconds=2"]
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # whatever runs is too much
    driver = start(toy_data, tmp_path, *options, "--no-trial-batch")
    _, said = driver.communicate(timeout=400)
    assert driver.returncode == 1, said
    found = load(tmp_path / "toy" / "one")
    assert (found.stop_reason or "").startswith("given up: nothing but trouble with the machine")
    assert {record.status for record in found.records.values()} == {"lost"}
    assert any(record.restarts for record in found.records.values())
    assert found.best is None
    assert "--resume" in said


@pytest.mark.slow
def test_a_disk_that_is_full_under_rays_own_files_costs_no_trial(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))  # sockets lie in it
    with small_disk(short, "120m") as disk:
        monkeypatch.setenv("RAY_TMPDIR", str(disk))
        faults = ["--set", "fault=exception", "--set", "fault_below=0.4"]  # Ray writes of each
        driver = start(toy_data, tmp_path, *PLAIN, *SLOW, *faults)
        after(driver, tmp_path / "toy" / "one", 2, lambda: fill_disk(disk))
        _, said = driver.communicate(timeout=400)
        assert driver.returncode == 0, said
    for record in load(tmp_path / "toy" / "one").records.values():
        assert record.status == ("failed" if record.config["quality"] < 0.4 else "completed")


@pytest.mark.slow
def test_a_bug_in_the_task_ends_the_search_after_a_few_trials(
    toy_data: Path, tmp_path: Path
) -> None:
    bug = ["--set", "fault=exception", "--set", "fault_below=2", "--set", "grace_period=3"]
    told = resnet_tune(*words(toy_data, tmp_path, *bug, "--num-samples", "12"), code=1)
    found = load(tmp_path / "toy" / "one")
    reason = 'given up: 5 trials in a row failed alike: RuntimeError: a <script> "quoted", comma,'
    assert found.stop_reason == reason
    assert 5 <= sum(record.status == "failed" for record in found.records.values()) <= 6
    cut = found.best and found.records[found.best["trial_id"]]  # by the end, before its fault
    assert not cut or cut.status == "lost"
    assert told.err.count(reason) == 1

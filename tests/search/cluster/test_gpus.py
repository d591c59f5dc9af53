"""Parts of (logical) GPUs on a real cluster: who runs beside whom, and what is out of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import Search, load
from tests.ledgers import most_at_once
from tests.raylets import ENV, Cluster, raylets

TOY = Path(__file__).parents[2] / "toy.py"
PARTS = ["--gpus-per-trial", "0.25", "--cpus-per-trial", "0.5", "--set", "scheduler=none"]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One worker with two GPUs."""
    with raylets(workers=1, cpus=8, gpus=2) as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data for the toy study."""
    folder = tmp_path_factory.mktemp("data")
    prepare(LAYOUT, None, folder / "toy")
    return folder


def search(cluster: Cluster, data: Path, results: Path, *options: str) -> Search:
    """Run the toy study to its end."""
    folders = ["--data", str(data), "--results", str(results), "--name", "one"]
    words = ["search", str(TOY), *folders, "--address", cluster.address, *PARTS, *options]
    done = subprocess.run(
        cluster.inside([sys.executable, "-m", "search", *words]),
        capture_output=True,
        text=True,
        env={**os.environ, **ENV},
    )
    assert done.returncode == 0, done.stderr
    return load(results / "toy" / "one")


def test_eight_quarters_run_at_once_each_on_the_right_gpu(
    cluster: Cluster, data: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    slow = ["--set", "epoch_seconds=2", "--set", f"trace={trace}", "--num-samples", "16"]
    found = search(cluster, data, tmp_path / "results", *slow)
    assert set(found.trials["status"]) == {"completed"}
    assert most_at_once(found.path) == 8
    lines = [line.split() for line in trace.read_text().splitlines()]
    devices = {pid: gpus for _, _, pid, gpus in lines}
    assert set(devices.values()) == {"gpus=0", "gpus=1"}
    assert sorted(devices.values()).count("gpus=0") == 4
    assert len(devices) == 8, "a worker process is used again"


def test_a_trial_out_of_gpu_memory_is_run_once_more_alone(
    cluster: Cluster, data: Path, tmp_path: Path
) -> None:
    faulty = ["--set", "fault=gpu_oom", "--set", "fault_below=0.6", "--num-samples", "10"]
    found = search(cluster, data, tmp_path / "results", *faulty, "--set", "sampler=random")
    for record in found.records.values():
        quality = record.config["quality"]
        again = record.restarts
        assert len(again) == (quality < 0.6)
        assert all("OutOfMemoryError: CUDA out of memory" in reason for reason in again)
        assert record.status == ("failed" if quality <= 0.1 else "completed")
    assert any(record.restarts for record in found.records.values())

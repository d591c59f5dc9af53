"""Checkpoints on a real S3 server (moto's) on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import load
from search.cluster.storage import Storage, fetched, search_storage, whole_path
from search.errors import UsageError
from search.records.manifest import read_manifest, write_manifest
from search.records.statuses import FINISHED
from search.running.session import recorded_storage
from tests.commands import RAY_WARNS, resnet_tune
from tests.ledgers import make_search
from tests.raylets import free_port

TOY = Path(__file__).parents[2] / "toy.py"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an empty bucket; the environment leads to its server."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    for key, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(key, value)
    try:
        wait_for(endpoint)
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="tune")
        yield "s3://tune/my%20checkpoints"
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(endpoint: str) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "moto's server did not start within a minute"
            time.sleep(0.2)


def command(data: Path, results: Path, *options: str) -> list[str]:
    """`resnet-tune search` on the toy study."""
    folders = ["--data", str(data), "--results", str(results), "--name", "one"]
    return [sys.executable, "-m", "search", "search", str(TOY), *folders, *options]


def waiting(search_dir: Path) -> int:
    """Trials that wait at a rung, with a checkpoint."""
    if not (search_dir / "search.json").exists():
        return 0
    return sum(record.status == "paused" for record in load(search_dir).records.values())


@pytest.mark.slow
@RAY_WARNS
def test_a_search_with_its_checkpoints_in_s3_is_killed_and_resumed(
    bucket: str, tmp_path: Path
) -> None:
    data, results = tmp_path / "data", tmp_path / "results"
    prepare(LAYOUT, None, data / "toy")
    trace = tmp_path / "trace"
    slow = ["--set", "epoch_seconds=0.2", "--set", f"trace={trace}", "--num-samples", "6"]
    started = subprocess.Popen(
        command(data, results, "--storage", bucket, *slow),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    search_dir = results / "toy" / "one"
    deadline = time.monotonic() + 120
    while waiting(search_dir) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    lines = len(trace.read_text().splitlines())
    resnet_tune(*command(data, results, "--resume")[3:])
    found = load(search_dir)
    assert set(found.trials["status"]) <= {"completed", "stopped"}
    assert len(found.trials) == 6
    assert {record.status for record in found.records.values()} <= FINISHED
    resumed = [line.split() for line in trace.read_text().splitlines()[lines:]]
    assert any(int(first) > 1 for _, first, *_ in resumed), "none went on from a checkpoint"
    assert found.best is not None
    checkpoint = found.records[found.best["trial_id"]].checkpoint
    assert checkpoint is not None
    uri = Storage(f"{bucket}/toy/one").find(checkpoint)
    assert uri == f"{bucket}/toy/one/{checkpoint}"
    with fetched(uri) as folder:
        assert (folder / "state.json").is_file()
    assert not (search_dir / "ray").exists()


def test_a_storage_that_only_search_json_names_must_be_marked_as_the_searchs_own(
    tmp_path: Path,
) -> None:
    victim = Storage(str(tmp_path / "tune" / "toy" / "one"))
    victim.mark("2026-01-01T00:00:00")
    search_dir = make_search(tmp_path / "results" / "toy" / "one")
    stranger = read_manifest(search_dir).model_copy(update={"storage": str(tmp_path / "tune")})
    write_manifest(search_dir, stranger)
    with pytest.raises(UsageError, match=r"search\.json names the storage .*tune, where nothing"):
        recorded_storage(search_dir)
    victim.mark(stranger.start)
    assert recorded_storage(search_dir) == str(tmp_path / "tune")
    assert whole_path("s3://bucket/x") == "s3://bucket/x"


def test_a_bucket_that_is_not_there_is_refused(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Storage("s3://nowhere/x").write("a/b", b"c")


def test_a_confirmation_has_its_part_below_that_of_its_search(tmp_path: Path) -> None:
    one = tmp_path / "digits" / "one"
    assert search_storage("s3://b/x?region=r", one, "digits").uri == "s3://b/x/digits/one?region=r"
    again = search_storage("s3://b/x?region=r", one / "confirm", "digits").uri
    assert again == "s3://b/x/digits/one/confirm?region=r"
    assert search_storage(None, one / "confirm", "digits").uri == str(one / "confirm")

"""No password, key or token in anything that a search writes or says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import load
from tests.raylets import free_port
from tests.search.cluster.test_storage import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = REPOSITORY / "tests" / "toy.py"
VARIABLES = (
    *("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN", "AZURE_STORAGE_KEY"),
)
CANARIES = {name: f"canary-{number}-of-{name.lower()}" for number, name in enumerate(VARIABLES)}
IN_URIS = ("canary-user", "canary-password", "canary-signature")


@pytest.fixture
def bucket() -> Iterator[str]:
    """The address of a real S3 server (moto's) with an empty bucket `tune`."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}")
            keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
            endpoint = f"http://127.0.0.1:{port}"
            client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
            client.create_bucket(Bucket="tune")
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def run(words: list[str], env: dict[str, str]) -> str:
    """All that a command says."""
    done = subprocess.run(
        [sys.executable, "-m", "search", *words],
        env={**os.environ, **env, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def holding(folder: Path, secrets: list[str]) -> list[tuple[str, str]]:
    """Files below the folder, and which of the secrets each holds."""
    wanted = [(secret, secret.encode()) for secret in secrets]
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += [(str(path), secret) for secret, text in wanted if text in data]
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_secret_in_results_logs_report_or_output(bucket: str, tmp_path: Path) -> None:
    """Given by variables, by the URIs of a storage and a tracker, and told by a failing trial."""
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    user, password, signature = IN_URIS
    storage = f"s3://{user}:{password}@tune/x?scheme=http&endpoint_override={bucket}"
    tracker = f"http://{user}:{password}@127.0.0.1:9/?sig={signature}"
    results, trace = tmp_path / "results", tmp_path / "trace"
    faults = ["--set", "fault=secret", "--set", "fault_below=0.45", "--set", "scheduler=none"]
    options = ["--num-samples", "6", "--name", "one", "--storage", storage, *faults]
    folders = ["--data", str(tmp_path / "data"), "--results", str(results)]
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as short:  # sockets lie in it
        env = {**CANARIES, "RAY_TMPDIR": short}
        task = ["search", str(TOY), *folders]
        said = run([*task, *options, "--mlflow", tracker, "--set", f"trace={trace}"], env)
        said += run([*task, "--name", "one", "--resume", "--storage", storage], env)
        for words in (["trials"], ["trials", "--format=json"], ["report"]):
            said += run([*words, str(results / "toy" / "one")], env)
        token = trace.with_suffix(".token").read_text()
        assert len(token) == 64
        secrets = [*CANARIES.values(), password, signature, token]
        left = holding(Path(short), secrets)
        assert left == [], "\n".join(map(str, left))
    found = load(results / "toy" / "one")
    assert found.info.status == "finished"
    failed = [record.error for record in found.records.values() if record.status == "failed"]
    assert failed
    assert all("says no" in (error or "") and "canary" not in (error or "") for error in failed)
    assert holding(results, secrets) == []
    assert [secret for secret in secrets if secret in said] == []
    assert "MLflow is off (http://***@127.0.0.1:9/" in said

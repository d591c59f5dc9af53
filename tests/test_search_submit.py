"""A search sent to a real cluster's job server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search.cli import guarded
from search.submit import job_client, packed_code
from search.trials import load
from tests.raylets import ENV, Cluster, raylets

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and a worker."""
    with raylets(workers=1) as started:
        yield started


def submit(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """`resnet-tune submit` as a user would type it."""
    command = [sys.executable, "-m", "search", "submit", str(TOY), *words]
    return subprocess.run(
        cluster.inside([*command, "--job-address", cluster.job_address]),
        capture_output=True,
        text=True,
        env={**os.environ, **ENV},
    )


def test_a_submitted_search_ends_and_a_bad_one_tells_its_reason(
    cluster: Cluster, tmp_path: Path
) -> None:
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    done = submit(cluster, *folders, "--name", "sent", "--num-samples", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of code" in done.stderr
    assert f"ray job logs --address {cluster.job_address}" in done.stderr
    assert "5/5 trials ended" in done.stdout
    assert len(load(tmp_path / "results" / "toy" / "sent").trials) == 5
    folders[1] = str(tmp_path / "nowhere")
    bad = submit(cluster, *folders, "--name", "bad")
    assert bad.returncode == 1
    assert "no prepared data in" in bad.stdout
    assert "ended as FAILED" in bad.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--num-sample", "3"], 2, "--num-sample"),
        (["--set", "lrr=3"], 2, "lrr"),
        ([], 1, "no Ray job server at http://127.0.0.1:1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["submit", "digits", "--job-address", "http://127.0.0.1:1", *words]
    assert guarded(command, debug=False) == code
    told = capsys.readouterr().err
    assert text in told
    assert len(told.strip().splitlines()) == 1


def test_the_working_directory_holds_code_only() -> None:
    with packed_code(str(TOY)) as (folder, task):
        assert task == "toy.py"
        names = {path.name for path in folder.iterdir()}
        assert names == {"data_prep", "trainables", "search", "toy.py"}
        assert not list(folder.rglob("__pycache__"))
        assert (folder / "search" / "templates").is_dir()


def test_an_address_must_be_a_url() -> None:
    with pytest.raises(ValueError, match="http://HOST:8265"):
        job_client("head:8265")

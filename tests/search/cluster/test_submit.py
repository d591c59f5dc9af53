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
from search import load
from search.cli import guarded
from search.cluster.submit import job_client, packed_code
from tests.raylets import ENV, Cluster, raylets

TOY = Path(__file__).parents[2] / "toy.py"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and a worker."""
    with raylets(workers=1) as started:
        yield started


def tune(
    cluster: Cluster, command: str, *words: str, task: str = str(TOY), **env: str
) -> subprocess.CompletedProcess[str]:
    """`resnet-tune COMMAND TASK` as a user would type it."""
    return subprocess.run(
        cluster.inside([sys.executable, "-m", "search", command, task, *words]),
        capture_output=True,
        text=True,
        env={**os.environ, **ENV, **env},
    )


@pytest.mark.slow
def test_a_submitted_search_ends_and_a_bad_one_tells_its_reason(
    cluster: Cluster, tmp_path: Path
) -> None:
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    folders += ["--job-address", cluster.job_address]
    # Ray's own client of the job server would follow RAY_ADDRESS instead of the option
    elsewhere = {"RAY_ADDRESS": "127.0.0.1:1"}
    words = [*folders, "--name", "sent", "--num-samples", "5"]
    done = tune(cluster, "submit", *words, **elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of code" in done.stderr
    assert f"ray job logs --address {cluster.job_address}" in done.stderr
    assert "5/5 trials ended" in done.stdout
    assert len(load(tmp_path / "results" / "toy" / "sent").trials) == 5
    folders[1] = str(tmp_path / "nowhere")
    bad = tune(cluster, "submit", *folders, "--name", "bad")
    assert bad.returncode == 1
    assert "no prepared data in" in bad.stdout
    assert "ended as FAILED" in bad.stderr.splitlines()[-1]


@pytest.mark.soak
def test_run_over_ray_client_leaves_a_submission(cluster: Cluster, tmp_path: Path) -> None:
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    words = [*folders, "--name", "whole", "--num-samples", "2", "--num-epochs", "2"]
    words += ["--set", "width=8", "--valid-fraction", "0.2", "--no-confirm"]
    words += ["--address", cluster.client_address]
    done = tune(cluster, "run", *words, task="digits")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test accuracy:" in done.stdout
    assert (tmp_path / "results" / "digits" / "whole" / "submission.csv").exists()


@pytest.mark.slow
def test_over_ray_client_the_whole_command_runs_as_a_job(cluster: Cluster, tmp_path: Path) -> None:
    """By the variable; by the option in the tests around it."""
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    first = tmp_path / "results" / "toy" / "first"
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    words = [*folders, "--name", "first", "--num-samples", "4", "--set", "sampler=random"]
    done = tune(cluster, "search", *words, RAY_ADDRESS=cluster.client_address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4/4 trials ended" in done.stdout
    assert f"results: {first} on the head node" in done.stderr
    assert load(first).info.sampler == "random"
    assert len(load(first).trials) == 4


@pytest.mark.soak
def test_over_ray_client_a_search_goes_on_and_check_checks(
    cluster: Cluster, tmp_path: Path
) -> None:
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    first = tmp_path / "results" / "toy" / "first"
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    there = ["--address", cluster.client_address]
    words = [*folders, "--name", "first", "--num-samples", "4", *there]
    done = tune(cluster, "search", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [*folders, "--name", "first", "--resume", "--num-samples", "6"]
    done = tune(cluster, "search", *words, RAY_ADDRESS=cluster.client_address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(load(first).trials) == 6
    checked = tune(cluster, "check", *folders, *there)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "ok      one batch" in checked.stdout


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
        assert (folder / "search" / "review" / "templates").is_dir()


def test_a_ray_client_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["search", "digits", "--address", "ray://127.0.0.1:1"], debug=False) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("resnet-tune: error: Ray cluster 'ray://127.0.0.1:1' cannot be reached")
    assert len(told.splitlines()) == 1


def test_an_address_must_be_a_url() -> None:
    with pytest.raises(ValueError, match="http://HOST:8265"):
        job_client("head:8265")

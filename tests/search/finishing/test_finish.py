"""Retraining and prediction: what is said before, and on a cluster whose head runs no trials."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import load
from search.cli import guarded
from search.errors import UsageError
from search.finishing.decision import decide
from search.finishing.finish import check_address, finish, forecast
from search.finishing.recipe import Wanted
from search.study.loading import load_study
from search.text import duration
from tests.ledgers import make_search
from tests.raylets import ENV, Cluster, raylets


def test_the_forecast_is_the_trials_own_epochs_on_all_labelled_images(tmp_path: Path) -> None:
    found = load(make_search(tmp_path / "a", trials=5))
    assert found.best is not None
    record, data = found.records[found.best["trial_id"]], found.info.data
    study = load_study("digits")
    wanted = Wanted(trial=record.trial_id, num_epochs=6)
    text = forecast(found, decide(found, study, wanted), None)
    seconds = 6 * record.seconds / record.epochs * (data.train + data.valid) / data.train
    assert f"6 epochs on {data.train + data.valid} images, about {duration(seconds)} by" in text
    assert text.startswith(f"retraining {record.trial_id} in this process: ")
    assert text.endswith(f"into {found.path / 'retrain'}")
    away = forecast(found, decide(found, study, Wanted()), "auto")
    assert "as a task of the Ray cluster auto" in away


def test_a_folder_that_cannot_be_written_is_told_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(make_search(tmp_path / "a", trials=3))
    data = prepare(LAYOUT, None, tmp_path / "digits")

    def read_only(**where: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(ValueError, match="cannot be written .Read-only file system"):
        finish(found, load_study("digits"), data, None)
    assert "retraining" not in capsys.readouterr().err


def test_an_address_of_ray_client_is_refused() -> None:
    with pytest.raises(UsageError, match="use auto or HOST:PORT"):
        check_address("ray://host:10001")


def tune(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """`resnet-tune ...` on the head."""
    done = subprocess.run(
        cluster.inside([sys.executable, "-m", "search", *words]),
        capture_output=True,
        text=True,
        env={**os.environ, **ENV},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_run_on_a_cluster_whose_head_has_no_cpu(tmp_path: Path) -> None:
    """The worker sees neither data nor results: both travel, and the model comes back."""
    for name in ("data", "results", "shared", "cache"):
        (tmp_path / name).mkdir()
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    with raylets(workers=0) as cluster:
        cluster.add_worker(
            hide=[tmp_path / "data", tmp_path / "results"],
            env={"RESNET_TUNE_CACHE": str(tmp_path / "cache")},
        )
        cluster.wait_for_nodes()
        options = ["--num-samples", "2", "--num-epochs", "2", "--set", "width=8"]
        options += ["--storage", str(tmp_path / "shared")]
        there = ["--address", cluster.address]
        options.append("--no-confirm")
        done = tune(cluster, "run", "digits", *folders, *options, *there, "--name", "one")
        assert re.search(r"retraining t\d+ as a task of the Ray cluster", done.stderr)
        search_dir = tmp_path / "results" / "digits" / "one"
        written = (search_dir / "submission.csv").read_bytes()
        names = {path.name for path in (search_dir / "retrain").iterdir()}
        assert names >= {"model.safetensors", "config.json", "metrics.csv", "metadata.json"}
        again = tmp_path / "again.csv"
        tune(cluster, "predict", str(search_dir), *there, "--out", str(again))
        assert again.read_bytes() == written
    again.unlink()
    assert guarded(["predict", str(search_dir), "--out", str(again)], debug=True) == 0
    assert again.read_bytes() == written, "the same model here"

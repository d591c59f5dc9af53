"""A real trial under Ray Tune: what it reports, when it leaves a checkpoint, how it resumes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune import Result, ResultGrid, RunConfig, Tuner

from tests.packed_folders import write_digits
from trainables import digits
from trainables.loop import fit
from trainables.reporting import STATE_FILE, knobs_of

KNOBS = {"width": 8, "num_epochs": 4, "device": "cpu", "precision": "float32", "lr": 0.02}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), 150)


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run(folder: Path, storage: Path, config: dict[str, Any], **settings: Any) -> ResultGrid:
    trainable = partial(digits.trainable, data_dir=str(folder), **settings)
    return Tuner(
        trainable, param_space=config, run_config=RunConfig(storage_path=str(storage), verbose=0)
    ).fit()


def local(folder: Path) -> list[dict[str, float]]:
    """The same training without Ray."""
    config = dataclasses.replace(digits.CONFIG, **KNOBS)  # type: ignore[arg-type]
    data = digits.load_data(folder, config)
    return list(fit(digits.start(config, data), data.train, data.valid, config))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_trials_report_leave_checkpoints_and_resume(folder: Path, tmp_path: Path) -> None:
    config = {**KNOBS, "lr": tune.grid_search([0.02, 1e30]), "_resume_from": None}
    good, diverged = run(folder, tmp_path / "first", config, checkpoint_epochs=(1, 2))
    assert good.error is None
    history = good.metrics_dataframe
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    expected = local(folder)
    losses = [row["valid_loss"] for row in expected]  # with this process's threads, not the trial's
    assert history["valid_loss"].tolist() == pytest.approx(losses, rel=1e-5)
    assert good.metrics["path"] == "images"
    assert good.metrics["precision"] == "float32"
    assert good.metrics["threads"] == 1
    assert epochs_of_checkpoints(good) == [1, 2, 4]

    assert diverged.error is None
    assert diverged.metrics["epoch"] == 1
    assert not diverged.metrics["train_loss"] < float("inf")
    assert diverged.checkpoint is None

    checkpoint = next(c for c, metrics in good.best_checkpoints if metrics["epoch"] == 2)
    assert (Path(checkpoint.path) / STATE_FILE).is_file()
    config = {**KNOBS, "_resume_from": checkpoint.path}
    (resumed,) = run(folder, tmp_path / "second", config, checkpoint_seconds=0.0)
    history = resumed.metrics_dataframe
    assert history["epoch"].tolist() == [3, 4]
    assert history["valid_loss"].tolist() == pytest.approx(losses[2:], rel=1e-5)
    assert epochs_of_checkpoints(resumed) == [3, 4]


def epochs_of_checkpoints(result: Result) -> list[int]:
    """After which epochs a trial left a checkpoint."""
    return [metrics["epoch"] for _, metrics in result.best_checkpoints]


def test_names_of_the_search_are_no_knobs() -> None:
    assert knobs_of({"lr": 0.1, "_trial_id": "t0000", "_resume_from": None}) == {"lr": 0.1}


def test_a_knob_that_is_no_more_is_left_out() -> None:
    assert knobs_of({"lr": 0.1, "weight_average": 0.2, "_trial_id": "t0001"}) == {"lr": 0.1}

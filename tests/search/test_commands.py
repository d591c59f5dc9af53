"""The whole job on real images: from the raw download to the checked submission, file by file."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from search import Search, load
from search.finishing.decision import decide
from search.finishing.recipe import Wanted
from search.finishing.retrain import retrain
from search.records.best import BASELINE
from search.records.tables import COLUMNS, HISTORY_COLUMNS
from search.study.loading import load_study
from tests.commands import RAY_WARNS, resnet_tune
from trainables import digits
from trainables.loop import fit

pytestmark = RAY_WARNS

SEARCH_FILES = {
    "search.json",
    "trials.csv",
    "history.csv",
    "best.json",
    "study.journal",
    "report.html",
    "submission.csv",
    "ray",
    "retrain",
}
RETRAIN_FILES = {"model.safetensors", "config.json", "metrics.csv", "metadata.json"}


def run(folder: Path, *arguments: str) -> str:
    """What `resnet-tune ...` prints, with its data and results below `folder`."""
    command = list(arguments)
    if arguments[0] == "run":
        command += ["--data", str(folder / "data"), "--results", str(folder / "results")]
        command += ["--name", "one"]
    return resnet_tune(*command).out


def check_files(search_dir: Path, num_samples: int) -> None:
    """Every file of the contract, with its documented columns."""
    assert {path.name for path in search_dir.iterdir()} >= SEARCH_FILES
    assert {path.name for path in (search_dir / "retrain").iterdir()} >= RETRAIN_FILES
    trials = pd.read_csv(search_dir / "trials.csv")
    assert list(trials.columns[: len(COLUMNS)]) == COLUMNS
    assert all(column.startswith("config/") for column in trials.columns[len(COLUMNS) :])
    assert len(trials) == num_samples
    assert list(pd.read_csv(search_dir / "history.csv").columns) == HISTORY_COLUMNS
    info = json.loads((search_dir / "search.json").read_text())
    assert info["status"] == "finished"
    assert {"task", "metric", "mode", "space", "seed", "data", "versions", "command"} <= set(info)


def test_digits_from_nothing_to_a_scored_submission(tmp_path: Path) -> None:
    options = ["--num-samples", "3", "--num-epochs", "4", "--no-confirm"]
    told = run(tmp_path, "run", "digits", *options, "--set", "grace_period=4")
    search_dir = tmp_path / "results" / "digits" / "one"
    check_files(search_dir, 3)
    submission = pd.read_csv(search_dir / "submission.csv")
    answers = pd.read_csv(tmp_path / "data" / "digits" / "test_labels.csv")
    right = submission.merge(answers, on="id", suffixes=("", "_true"))
    accuracy = (right["label"] == right["label_true"]).mean()
    assert f"test accuracy: {accuracy:.4f}" in told
    assert accuracy > 0.9

    baseline = load(search_dir).records[BASELINE].config
    assert (baseline["lr"], baseline["momentum"], baseline["batch_size"]) == (0.05, 0.9, 64)

    written = (search_dir / "submission.csv").read_bytes()
    out = tmp_path / "again.csv"
    run(tmp_path, "predict", str(search_dir), "--out", str(out))
    assert out.read_bytes() == written
    images = tmp_path / "data" / "digits" / "test" / "unknown"
    run(tmp_path, "predict", str(search_dir), "--images", str(images), "--out", str(out))
    again = pd.read_csv(out).set_index("id")["label"]
    assert again.loc[submission["id"]].tolist() == submission["label"].tolist()

    run(tmp_path, "retrain", str(search_dir), "--trial", BASELINE, "--num-epochs", "1")
    assert len(pd.read_csv(search_dir / "retrain" / "metrics.csv")) == 1
    shown = run(tmp_path, "trials", str(search_dir), "--format", "csv")
    assert len(shown.strip().splitlines()) == 4
    check_choice_of_model(search_dir, tmp_path / "data" / "digits")


def check_choice_of_model(search_dir: Path, data_dir: Path) -> None:
    """A retraining, which cannot validate, keeps what the trial's validation chose."""
    study = load_study("digits")
    assert set(pd.read_csv(search_dir / "history.csv")["averaged"]) <= {0, 1}
    for averaged in (0.0, 1.0):
        search = load(search_dir)
        for metrics in search.records[BASELINE].history.values():
            metrics["averaged"] = averaged
        recipe = decide(search, study, Wanted(trial=BASELINE, num_epochs=1))
        folder = retrain(search, study, data_dir, recipe=recipe)
        config = replace(digits.CONFIG, **{**search.records[BASELINE].config, "num_epochs": 1})
        data = digits.load_data(data_dir, config)
        state = digits.start(config, data)
        list(fit(state, data.train_valid, None, config))
        assert state.average is not None
        expected = (state.average.model if averaged else state.network).state_dict()
        kept = load_file(folder / "model.safetensors")
        assert kept.keys() == expected.keys()
        for name, tensor in kept.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


def test_the_trial_table_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from search.cli import guarded; guarded(['trials', 'none'], False);"
        "sys.exit(any(name in sys.modules for name in ('ray', 'torch', 'optuna', 'plotly')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0


@pytest.mark.slow
def test_cifar10_on_genuine_images(shared_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "cifar"
    with tarfile.open(shared_data / "d2l_kaggle_cifar10_1000samples.tar.gz") as archive:
        archive.extractall(tmp_path / "all", filter="data")
    whole = tmp_path / "all" / "kaggle_cifar10"
    keep_some(whole / "train_1000samples", source / "train", 120)
    keep_some(whole / "test_100samples", source / "test", 20)
    (source / "trainLabels.csv").write_bytes((whole / "trainLabels.csv").read_bytes())
    options = ["--num-samples", "2", "--num-epochs", "1", "--set", "batch_size=32"]
    options.append("--no-confirm")
    run(tmp_path, "run", "cifar10", "--source", str(source), *options)
    search_dir = tmp_path / "results" / "cifar10" / "one"
    check_files(search_dir, 2)
    baseline = load(search_dir).records[BASELINE].config
    notes = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "constant"}
    assert notes.items() <= baseline.items()
    submission = pd.read_csv(search_dir / "submission.csv", dtype=str)
    assert set(submission["id"]) == {path.stem for path in (source / "test").iterdir()}
    assert set(submission["label"]) <= set(load(search_dir).info.data.classes)


@pytest.mark.slow
def test_dog_breed_on_genuine_images_and_weights(shared_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "dogs"
    with tarfile.open(shared_data / "dog_kaggle_120x20_short256.tar") as archive:
        archive.extractall(tmp_path / "all", filter="data")
    whole = tmp_path / "all" / "dog_kaggle_120x20_short256"
    labels = pd.read_csv(whole / "labels.csv").groupby("breed").head(3)
    keep_some(whole / "train", source / "train", len(labels), set(labels["id"]))
    keep_some(whole / "test", source / "test", 20)
    labels.to_csv(source / "labels.csv", index=False)
    sample = pd.read_csv(whole / "sample_submission.csv")
    kept = {path.stem for path in (source / "test").iterdir()}
    sample[sample["id"].isin(kept)].to_csv(source / "sample_submission.csv", index=False)
    weights = shared_data / "weights" / "mobilenet_v2_features_torchvision_layout.pt"
    options = ["--num-samples", "2", "--num-epochs", "2", "--set", "image_size=64"]
    options.append("--confirm")
    backbone = ["--set", "backbone=mobilenet_v2", "--set", f"weights={weights}"]
    run(tmp_path, "run", "dog_breed", "--source", str(source), *options, *backbone)
    search_dir = tmp_path / "results" / "dog_breed" / "one"
    check_files(search_dir, 2)
    baseline = load(search_dir).records[BASELINE].config
    check_confirmed(load(search_dir))
    notes = {"lr": 0.03, "weight_decay": 1e-4, "hidden": 256, "lr_period": 10, "lr_decay": 0.1}
    assert notes.items() <= baseline.items()
    ours, theirs = (
        pd.read_csv(path)
        for path in (search_dir / "submission.csv", source / "sample_submission.csv")
    )
    assert list(ours.columns) == list(theirs.columns)
    assert ours["id"].tolist() == theirs["id"].tolist()
    assert ours.drop(columns="id").sum(axis=1).tolist() == pytest.approx([1] * len(ours), abs=1e-6)
    with (search_dir / "trials.csv").open() as file:
        assert next(csv.reader(file))[:3] == ["trial_id", "status", "epochs"]


def check_confirmed(found: Search) -> None:
    """The best and the baseline have run on five folds, and the choice is what is retrained."""
    assert found.confirmed is not None
    assert found.runs is not None
    assert len(found.confirmed.rows) == 2
    assert sum(len(o.losses) for o in found.runs.outcomes.values()) >= 360
    assert {record.facts["path"] for record in found.runs.records.values()} == {"features"}
    metadata = json.loads((found.path / "retrain" / "metadata.json").read_text())
    assert metadata["trial_id"] == found.confirmed.chosen
    assert metadata["epochs"] == found.confirmed.row.epoch
    assert (found.path / "retrain" / "valid_predictions.npz").is_file()
    images = found.info.data.train + found.info.data.valid
    assert metadata["calibration"]["images"] == images
    assert metadata["calibration"]["applied"] == (metadata["calibration"]["temperature"] != 1)


def keep_some(source: Path, target: Path, count: int, stems: set[str] | None = None) -> None:
    """Link the first `count` images (of these names) into a smaller download."""
    target.mkdir(parents=True)
    files = sorted(path for path in source.iterdir() if stems is None or path.stem in stems)
    for path in files[:count]:
        (target / path.name).hardlink_to(path)

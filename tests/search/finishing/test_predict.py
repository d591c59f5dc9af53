"""Other images are predicted from the search's folder alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_prep.digests import digest, write_digests
from data_prep.prepared import TABLES
from search.cli import guarded
from search.files import read_json, write_json
from search.finishing.inputs import Inputs, read_inputs
from search.finishing.predict import predictions_of_test
from search.study.loading import load_study
from tests.commands import resnet_tune


@pytest.fixture
def alone(retrained_digits: Path, tmp_path: Path) -> Path:
    """A copy of the search whose data are gone."""
    copy = Path(shutil.copytree(retrained_digits, tmp_path / "copied"))
    info = read_json(copy / "search.json")
    info["data"]["root"] = str(tmp_path / "gone")
    write_json(copy / "search.json", info)
    return copy


def test_images_are_predicted_without_the_data(
    alone: Path, retrained_digits: Path, tmp_path: Path
) -> None:
    data = retrained_digits.parents[2] / "data"
    images = ["--images", str(data / "digits" / "test" / "unknown")]
    with_data = ["--data", str(data), "--out", str(tmp_path / "all.csv")]
    assert guarded(["predict", str(retrained_digits), *with_data], debug=True) == 0
    assert guarded(["predict", str(alone), *images], debug=True) == 0
    wanted = pd.read_csv(tmp_path / "all.csv", dtype=str)
    found = pd.read_csv(alone / "predictions.csv", dtype=str)
    assert len(found) == 364
    assert dict(found.values.tolist()) == dict(wanted.values.tolist())


def test_the_test_set_needs_the_data(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["predict", str(alone)], debug=False) == 1
    assert "no prepared data in" in capsys.readouterr().err


def test_a_model_of_the_version_before_takes_its_data(
    alone: Path, retrained_digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = read_json(alone / "retrain" / "metadata.json")
    del metadata["inputs"]
    write_json(alone / "retrain" / "metadata.json", metadata)
    data = retrained_digits.parents[2] / "data"
    images = ["--images", str(data / "digits" / "test" / "unknown")]
    assert guarded(["predict", str(alone), *images], debug=False) == 1
    assert "no prepared data in" in capsys.readouterr().err
    assert guarded(["predict", str(alone), *images, "--data", str(data)], debug=True) == 0
    assert "364 images predicted" in capsys.readouterr().out


def test_inputs_are_those_of_the_data(retrained_digits: Path) -> None:
    packed = json.loads(
        (retrained_digits.parents[2] / "data/digits/packed/packed.json").read_text()
    )
    found = read_inputs(retrained_digits)
    assert found is not None
    assert found.classes == tuple("0123456789")
    assert found.mean == tuple(packed["mean"])
    assert found.std == tuple(packed["std"])
    assert (found.image_size, found.short_side, found.submission) == (8, None, "label")


def test_damaged_inputs_are_one_line(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = read_json(alone / "retrain" / "metadata.json")
    metadata["inputs"]["image_size"] = "large"
    write_json(alone / "retrain" / "metadata.json", metadata)
    assert guarded(["predict", str(alone), "--images", str(alone)], debug=False) == 1
    said = capsys.readouterr().err
    assert "metadata.json cannot be used (inputs.image_size:" in said
    assert said.count("\n") == 1


def test_without_a_model_the_line_says_what_to_do(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(alone / "retrain")
    assert guarded(["predict", str(alone), "--images", str(alone)], debug=False) == 1
    assert f"run `resnet-tune retrain {alone}`" in capsys.readouterr().err


def test_a_study_is_fitted_as_it_was_to_small_and_to_large_images(tmp_path: Path) -> None:
    study = load_study("images-birds")
    common: dict[str, Any] = {"classes": ("a", "b"), "mean": (0.5,) * 3, "std": (0.2,) * 3}
    small = Inputs(**common, image_size=32, short_side=None, submission="probabilities").fit(study)
    assert small.trainables.__name__ == "trainables.cifar10"
    assert (small.task, small.layout.image_size, small.layout.short_side) == (
        "images-birds",
        32,
        None,
    )
    assert (small.submission, small.metric) == ("probabilities", "valid_loss")
    large = Inputs(**common, image_size=None, short_side=256, submission="label").fit(study)
    assert large.trainables.__name__ == "trainables.images"
    assert (large.layout.image_size, large.layout.short_side) == (None, 256)


def test_one_image_beside_a_broken_one(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(folder / "one.png")
    (folder / "two.png").write_bytes(b"no image")
    Image.fromarray(pixels).save(folder / "three.tif")
    Image.fromarray(pixels).save(folder / "four.gif")
    Image.fromarray(pixels).save(folder / "one.jpg")  # beside one.png
    (folder / "._one.png").write_bytes(b"x")  # as macOS leaves them
    (folder / "empty.png").touch()
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    (folder / "x.jpg").mkdir()
    shutil.copy(folder / "three.tif", folder / os.fsdecode(b"b\xe4r.tif"))
    out = tmp_path / "out.csv"
    arguments = ["predict", str(alone), "--images", str(folder), "--out", str(out)]
    assert guarded(arguments, debug=True) == 0
    assert list(pd.read_csv(out)["id"]) == ["four", "one.jpg", "one.png", "three"]
    told = capsys.readouterr().err
    assert f"6 files of {folder} left out (empty.png: does not decode: not an image;" in told
    assert "\n" not in told.rstrip("\n")


def test_the_answer_key_changes_the_score_alone(retrained_digits: Path, tmp_path: Path) -> None:
    data = retrained_digits.parents[2] / "data"
    own = Path(shutil.copytree(data, tmp_path / "data"))
    key = own / "digits" / "test_labels.csv"
    table = pd.read_csv(key, dtype=str)
    scores = []
    for name, labels in (("right", table["label"]), ("turned", table["label"][::-1].to_numpy())):
        table.assign(label=labels).to_csv(key, index=False)
        digests = {path.name: digest(path) for path in key.parent.iterdir() if path.name in TABLES}
        write_digests(key.parent, digests)
        out = tmp_path / f"{name}.csv"
        arguments = ["predict", str(retrained_digits), "--data", str(own), "--out", str(out)]
        scores.append(resnet_tune(*arguments).out.rpartition("test accuracy: ")[2].strip())
    assert (tmp_path / "right.csv").read_bytes() == (tmp_path / "turned.csv").read_bytes()
    predicted = pd.read_csv(tmp_path / "right.csv", dtype=str).set_index("id")["label"]
    predicted = predicted.loc[table["id"]]
    right = (predicted.to_numpy() == table["label"].to_numpy()).mean()
    turned = (predicted.to_numpy() == table["label"].to_numpy()[::-1]).mean()
    assert scores == [f"{right:.4f}", f"{turned:.4f}"]
    assert right != turned


def test_predictions_have_the_temperature_that_was_fitted(
    alone: Path, retrained_digits: Path
) -> None:
    data = retrained_digits.parents[2] / "data" / "digits"
    study = load_study("digits")
    plain = predictions_of_test(alone, study, data)
    metadata = read_json(alone / "retrain" / "metadata.json")
    metadata["calibration"] = {"temperature": 2.0}
    write_json(alone / "retrain" / "metadata.json", metadata)
    found = predictions_of_test(alone, study, data)
    roots = np.sqrt(plain.probabilities)
    wanted = roots / roots.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)
    assert found.labels == plain.labels

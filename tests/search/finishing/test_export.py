"""Exported models say what the retrained one says, to those who have none of this package."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import save_model
from torch import Tensor, nn
from torchvision.transforms import v2

from search.cli import guarded
from search.files import read_json, write_json
from search.finishing import export_formats
from search.finishing.export import plain_network
from search.finishing.inputs import Inputs
from search.finishing.retrained import load_retrained
from search.study.loading import load_study
from search.study.study import Study
from tests.dog_features import random_weights, small_config
from tests.ledgers import make_search
from trainables.data import without_images

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def digits(retrained_digits: Path, tmp_path: Path) -> Path:
    """A copy of the search, whose data are where they were."""
    return Path(shutil.copytree(retrained_digits, tmp_path / "copied"))


def wanted_logits(search_dir: Path, study: Study, images: Tensor) -> Tensor:
    """Of the retrained model."""
    plainly = {"device": "cpu", "precision": "float32"}
    model = load_retrained(search_dir, study, None, plainly)[0].model.eval()
    with torch.inference_mode():
        logits: Tensor = model(images)
    return logits


def by_the_card(card: dict[str, Any], image: Image.Image) -> Tensor:
    """float32 (1, 3, H, W): the image as the card says, by torchvision alone."""
    size = card["input"]
    tensor = v2.functional.pil_to_tensor(image.convert("RGB"))
    if "resize" in size:
        tensor = v2.functional.resize(tensor, size["resize"], antialias=True)
    else:
        if min(image.size) > size["shrink_short_side"]:
            tensor = v2.functional.resize(tensor, [size["shrink_short_side"]], antialias=True)
        tensor = v2.functional.resize(tensor, [size["resize_short_side"]], antialias=True)
        tensor = v2.functional.center_crop(tensor, [size["centre_crop"]])
    scaled: Tensor = v2.functional.to_dtype(tensor, torch.float32, scale=True)
    image_batch: Tensor = v2.functional.normalize(scaled, size["mean"], size["std"])[None]
    return image_batch


def test_onnx_names_the_digits_that_predict_names(
    digits: Path, retrained_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(["export", str(digits), "--format", "onnx"], debug=True) == 0
    said = capsys.readouterr().out
    assert re.search(r"as the retrained model's within \d\.\de-\d\d, on 8 images of test\n", said)
    card = read_json(digits / "export" / "model.onnx.json")
    assert card["classes"] == list("0123456789")
    assert card["input"]["shape"] == ["N", 3, 8, 8]
    assert card["largest_difference"] < 1e-4
    assert (card["trial_id"], card["input"]["colours"]) == ("t0000", "RGB")
    assert card["versions"]["torch"] == torch.__version__.split("+")[0]
    images = retrained_digits.parents[2] / "data" / "digits" / "test" / "unknown"
    out = tmp_path / "out.csv"
    assert guarded(["predict", str(digits), "--images", str(images), "--out", str(out)], True) == 0
    predicted = dict(line.split(",") for line in out.read_text().splitlines()[1:])
    session = onnxruntime.InferenceSession(digits / "export" / "model.onnx")
    files = sorted(images.iterdir())[:50]
    batch = torch.cat([by_the_card(card, Image.open(file)) for file in files])
    logits = session.run(["logits"], {"images": batch.numpy()})[0]
    named = [card["classes"][number] for number in logits.argmax(1)]
    assert named == [predicted[file.stem] for file in files]
    assert np.abs(logits - wanted_logits(digits, load_study("digits"), batch).numpy()).max() < 1e-4


@pytest.mark.parametrize("name", ["safetensors", "torchscript"])
def test_the_other_formats(digits: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "elsewhere"
    assert guarded(["export", str(digits), "--format", name, "--out", str(out)], debug=True) == 0
    (card,) = out.glob("*.json")
    assert {path.name for path in out.iterdir()} == {card.name, card.stem}
    if name == "torchscript":
        images = torch.randn(3, 3, 8, 8)
        found = export_formats.run_torchscript(nn.Identity(), images, out / "model.pt")
        wanted = wanted_logits(digits, load_study("digits"), images)
        assert (found - wanted).abs().max() < 1e-4


def exported_dogs(folder: Path, hidden: int) -> Path:
    """A search whose `retrain/` holds mobilenet_v2 with random weights under a new head."""
    search_dir = make_search(folder / "results/dog_breed/one", trials=1, metric="valid_loss")
    config = small_config(random_weights(folder / "weights.pt"), hidden=hidden)
    study = load_study("dog_breed")
    classes = tuple(f"breed{number:03d}" for number in range(120))
    data = without_images(classes, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    (search_dir / "retrain").mkdir()
    model = study.trainables.start(config, data).model
    save_model(model, str(search_dir / "retrain" / "model.safetensors"))
    write_json(search_dir / "retrain" / "config.json", dataclasses.asdict(config))
    inputs = Inputs.of(study, data).model_dump()
    write_json(search_dir / "retrain" / "metadata.json", {"trial_id": "t0000", "inputs": inputs})
    (folder / "weights.pt").unlink()
    assert guarded(["export", str(search_dir), "--format", "safetensors"], debug=True) == 0
    return search_dir


@pytest.fixture(scope="module")
def linear_dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The search of a linear head, exported."""
    return exported_dogs(tmp_path_factory.mktemp("linear"), 0)


def load_by(lines: list[str], folder: Path) -> nn.Module:
    """The model that these lines make in a Python that has none of this package at hand."""
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec("import safetensors.torch, torch, torchvision\n" + "\n".join(lines), names)
    finally:
        os.chdir(before)
    model: nn.Module = names["model"]
    return model


def check_lines(search_dir: Path) -> None:
    """The card's three lines make a model with the retrained one's logits."""
    card = read_json(search_dir / "export" / "model.safetensors.json")
    assert len(card["python"]) == 3
    assert card["checked"] == "8 random images"
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = load_by(card["python"], search_dir / "export")(images)
    wanted = wanted_logits(search_dir, load_study("dog_breed"), images)
    assert (found - wanted).abs().max() < 1e-4
    assert found.std() > 1e-3


def test_the_readmes_three_lines_load_the_model(linear_dogs: Path) -> None:
    text = README.read_text()
    at = text.index("import safetensors.torch, torch, torchvision\n")
    shown = [line for line in text[at:].split("```")[0].splitlines()[1:] if line]
    assert shown == read_json(linear_dogs / "export" / "model.safetensors.json")["python"]
    check_lines(linear_dogs)


def test_a_head_of_two_layers_takes_three_lines_too(tmp_path: Path) -> None:
    check_lines(exported_dogs(tmp_path, 16))


@pytest.mark.slow
def test_onnx_of_a_frozen_backbone_takes_batches_of_any_size(
    linear_dogs: Path, tmp_path: Path
) -> None:
    arguments = ["export", str(linear_dogs), "--format", "onnx", "--out", str(tmp_path)]
    assert guarded(arguments, debug=True) == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3):
        images = torch.randn(count, 3, 64, 64)
        found = session.run(["logits"], {"images": images.numpy()})[0]
        wanted = wanted_logits(linear_dogs, load_study("dog_breed"), images).numpy()
        assert found.shape == (count, 120)
        assert np.abs(found - wanted).max() < 1e-4


def test_cifars_network_is_loaded_by_torchvision_alone(tmp_path: Path) -> None:
    study = load_study("cifar10")
    data = without_images(tuple("abcdefghij"), (0.5,) * 3, (0.2,) * 3)
    model = study.trainables.start(study.config, data).model.eval()
    network, lines = plain_network(study, model, study.config)
    images = torch.randn(2, 3, 32, 32)
    export_formats.write_safetensors(network, images, tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert (load_by(lines, tmp_path)(images) - model(images)).abs().max() < 1e-4
    assert len(lines) == 3


def test_the_card_prepares_an_image_as_predict_does(linear_dogs: Path, tmp_path: Path) -> None:
    search_dir = linear_dogs
    card = read_json(search_dir / "export" / "model.safetensors.json")
    model = load_by(card["python"], search_dir / "export")
    photos = tmp_path / "photos"
    photos.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((400, 300)).save(photos / "dog.png")
    out = tmp_path / "out.csv"
    arguments = ["predict", str(search_dir), "--images", str(photos), "--out", str(out)]
    assert guarded(arguments, debug=True) == 0
    header, row = out.read_text().splitlines()
    assert header.split(",")[1:] == card["classes"]
    with torch.inference_mode():
        found = model(by_the_card(card, Image.open(photos / "dog.png"))).softmax(1)[0]
    assert found.tolist() == pytest.approx([float(value) for value in row.split(",")[1:]], abs=2e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--format", "keras"], 2, "--format keras: use safetensors, onnx, torchscript"),
        (["--format", "onnx", "--data", "nowhere"], 2, "--data nowhere: there is no folder"),
    ],
)
def test_mistakes_are_one_line(
    digits: Path, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(["export", str(digits), *arguments], debug=False) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (digits / "export").exists()


def test_a_file_that_says_something_else_is_not_written(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_rounded(network: nn.Module, images: Tensor, path: Path) -> None:
        export_formats.write_safetensors(network.half().float(), images, path)

    bad = dataclasses.replace(export_formats.FORMATS["safetensors"], write=write_rounded)
    monkeypatch.setitem(export_formats.FORMATS, "safetensors", bad)
    assert guarded(["export", str(digits), "--format", "safetensors"], debug=False) == 1
    assert "logits differ by" in capsys.readouterr().err
    assert list((digits / "export").iterdir()) == []


def test_a_network_that_no_trace_can_follow_is_one_line(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Named(nn.Module):
        """Gives its logits a name, which a trace cannot."""

        def forward(self, images: Tensor) -> dict[str, Any]:
            """A dictionary of more than tensors."""
            return {"logits": images.mean((2, 3)), "note": "three"}

    study = load_study("digits")
    monkeypatch.setattr(
        study.trainables, "plain_network", lambda model, config: (Named(), []), raising=False
    )
    assert guarded(["export", str(digits), "--format", "torchscript"], debug=False) == 1
    said = capsys.readouterr().err
    assert "this model cannot be exported as torchscript: " in said
    assert said.count("\n") == 1
    assert list((digits / "export").iterdir()) == []


def test_missing_packages_are_named(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = dataclasses.replace(
        export_formats.FORMATS["onnx"], packages=("onnxruntime", "no_such_package")
    )
    monkeypatch.setitem(export_formats.FORMATS, "onnx", lacking)
    assert guarded(["export", str(digits), "--format", "onnx"], debug=False) == 1
    assert (
        "--format onnx needs no_such_package: pip install 'resnet-tune[export]'"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_after_a_kill_the_same_command_completes(digits: Path) -> None:
    out = digits / "export"
    arguments = ["export", str(digits), "--format", "torchscript"]
    command = [sys.executable, "-m", "search", *arguments]
    assert guarded(arguments, debug=True) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not list(out.glob(".*.part")):  # it is writing
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".part"}
    assert kept == before
    assert list(out.glob(".*.part"))
    assert guarded(arguments, debug=True) == 0
    assert {path.name for path in out.iterdir()} == {"model.pt", "model.pt.json"}
    card = json.loads((out / "model.pt.json").read_text())
    assert (out / "model.pt").stat().st_size > 0
    assert card["checked"] == "8 images of test"

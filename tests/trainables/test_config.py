"""Knobs: the notes' numbers, types and bounds, and what the user types."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.cifar10 import CONFIG as CIFAR10
from trainables.cifar10 import RECIPE
from trainables.config import TrainConfig, parse_setting, recorded_knobs
from trainables.digits import CONFIG as DIGITS
from trainables.dog_breed import CONFIG as DOG_BREED
from trainables.dog_breed import STUDY_SETTINGS


def test_defaults_are_the_notes_numbers() -> None:
    cifar10 = dataclasses.asdict(CIFAR10)
    notes: dict[str, Any] = {
        "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 256, "num_epochs": 20,
        "crop": "pad", "margin": 4, "flip": True, "schedule": "constant", "seed": 0,
    }  # fmt: skip
    assert {key: cifar10[key] for key in notes} == notes
    dog_breed = dataclasses.asdict(DOG_BREED)
    notes = {
        "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 128, "num_epochs": 20,
        "schedule": "step", "lr_period": 10, "lr_decay": 0.1, "hidden": 256, "dropout": 0.0,
        "backbone": "resnet34", "weights": "imagenet", "unfreeze": 0, "image_size": 0,
        "min_area": 0.08, "jitter": 0.4, "seed": 0,
    }  # fmt: skip
    assert {key: dog_breed[key] for key in notes} == notes
    for config in (cifar10, dog_breed):
        assert not config["nesterov"]
        assert config["label_smoothing"] == config["warmup"] == 0


def test_study_settings_are_knobs() -> None:
    assert set(STUDY_SETTINGS) <= set(dataclasses.asdict(DOG_BREED))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr=3e-2", 0.03),
        ("lr=1", 1.0),
        ("batch_size=64", 64),
        ("nesterov=true", True),
        ("nesterov=False", False),
        ("schedule=one_cycle", "one_cycle"),
        ("device=cuda:1", "cuda:1"),
    ],
)
def test_setting_gets_the_knobs_type(setting: str, value: object) -> None:
    key, parsed = parse_setting(CIFAR10, setting)
    assert key == setting.split("=")[0]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("lr", "KEY=VALUE"),
        ("learning_rate=1", "no knob"),
        ("momentun=0.9", "did you mean momentum?"),
        ("lr=fast", "number"),
        ("lr=nan", "finite"),
        ("lr=-1", "greater than 0"),
        ("lr=inf", "finite"),
        ("batch_size=64.5", "integer"),
        ("batch_size=0", "greater than or equal to 1"),
        ("momentum=1", "less than 1"),
        ("nesterov=perhaps", "boolean"),
        ("schedule=linear", "'constant'"),
        ("device=tpu", "pattern"),
        ("seed=-1", "greater than or equal to 0"),
    ],
)
def test_wrong_setting_is_one_clear_line(setting: str, part: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]*$") as raised:
        parse_setting(CIFAR10, setting)
    assert part in str(raised.value)


def test_misspelt_key_and_wrong_type_raise() -> None:
    with pytest.raises((TypeError, ValidationError)):
        dataclasses.replace(DIGITS, momentun=0.9)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        dataclasses.replace(DIGITS, lr="fast")  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        DIGITS.lr = 1.0  # type: ignore[misc]


def test_weights_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").touch()
    monkeypatch.chdir(tmp_path)
    assert parse_setting(DOG_BREED, "weights=net.pth") == ("weights", str(tmp_path / "net.pth"))
    assert parse_setting(DOG_BREED, "weights=random") == ("weights", "random")
    with pytest.raises(ValueError, match=r"no file .*other\.pth"):
        parse_setting(DOG_BREED, "weights=other.pth")


def test_unknown_backbone() -> None:
    assert parse_setting(DOG_BREED, "backbone=mobilenet_v2") == ("backbone", "mobilenet_v2")
    with pytest.raises(ValueError, match=r"did you mean resnet34\?"):
        parse_setting(DOG_BREED, "backbone=resnet_34")
    with pytest.raises(ValueError, match="no classification model"):
        parse_setting(DOG_BREED, "backbone=fcn_resnet50")


def test_every_knob_says_what_it_is() -> None:
    source = Path(__file__).parents[2] / "trainables" / "config.py"
    lines = source.read_text().splitlines()
    for field in dataclasses.fields(TrainConfig):
        where = next(i for i, line in enumerate(lines) if line.startswith(f"    {field.name}: "))
        assert lines[where + 1].startswith('    """'), field.name


def test_a_knob_that_came_later_had_its_default_in_earlier_records() -> None:
    """The study may begin with another number today; `weight_average` is no more."""
    recorded = {"lr": 0.3, "weight_average": True}
    knobs = recorded_knobs(RECIPE, recorded)
    assert knobs["lr"] == 0.3
    assert (knobs["whiten"], knobs["bias_lr"], knobs["crop"]) == (False, 1.0, "pad")
    assert dataclasses.replace(RECIPE, **knobs) == dataclasses.replace(CIFAR10, lr=0.3)

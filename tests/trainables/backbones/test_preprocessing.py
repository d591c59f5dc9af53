"""How images come to a network: as its weights were made, unless the knobs say otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny_networks import RESNET
from trainables.backbones.preprocessing import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    preprocessing,
    preprocessings,
    saved_metadata,
)
from trainables.config import DogBreedConfig
from trainables.dog_breed import CONFIG

LITE0 = "timm/tf_efficientnet_lite0"


def config(backbone: str, weights: str = "random", **changes: Any) -> DogBreedConfig:
    return dataclasses.replace(CONFIG, backbone=backbone, weights=weights, **changes)


@pytest.mark.parametrize(
    ("backbone", "weights", "size", "short", "interpolation"),
    [
        ("resnet34", "imagenet", 224, 256, "bilinear"),
        ("mobilenet_v2", "IMAGENET1K_V1", 224, 256, "bilinear"),
        ("mobilenet_v2", "imagenet", 224, 232, "bilinear"),  # the second, which are its default
        ("efficientnet_b0", "random", 224, 256, "bicubic"),
        ("inception_v3", "random", 299, 342, "bilinear"),
        ("mobilenet_v2@320", "random", 320, 366, "bilinear"),
        (RESNET, "random", 160, 168, "bilinear"),
        (LITE0, "in1k", 224, 256, "bicubic"),
    ],
)
def test_size_and_resizing_are_those_of_the_weights(
    backbone: str, weights: str, size: int, short: int, interpolation: str
) -> None:
    found = preprocessing(config(backbone, weights))
    assert (found.size, round(found.size * found.eval_ratio)) == (size, short)
    assert found.interpolation == interpolation


def test_mean_and_deviation_are_those_of_the_weights() -> None:
    assert preprocessing(config(LITE0)).mean == preprocessing(config(LITE0)).std == HALF
    found = preprocessing(config("resnet34"))
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_file_is_known_by_torchvisions_name(tmp_path: Path) -> None:
    second = tmp_path / "mobilenet_v2-7ebf99e0.pth"
    second.touch()
    assert round(224 * preprocessing(config("mobilenet_v2", str(second))).eval_ratio) == 232


def test_the_knobs_have_the_last_word() -> None:
    changed = config(LITE0, image_size=96, resize_ratio=1.0, interpolation="bilinear")
    changed = dataclasses.replace(changed, normalise="imagenet")
    wanted = Preprocessing(96, 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    assert preprocessing(changed) == wanted


def test_a_retrained_models_file_tells_how_its_images_came(tmp_path: Path) -> None:
    made = config(f"mobilenet_v2+{LITE0}@64", "mobilenet_v2:IMAGENET1K_V2,random")
    path = tmp_path / "model.safetensors"
    save_file({"nothing": torch.zeros(1)}, path, metadata=saved_metadata(made))
    loaded = dataclasses.replace(made, weights=str(path))
    assert preprocessings(loaded) == preprocessings(made)
    assert round(224 * preprocessings(loaded)[0].eval_ratio) == 232


def test_networks_that_share_a_way_share_their_images() -> None:
    assert len(preprocessings(config("resnet18+resnet34"))) == 1
    assert len(preprocessings(config("resnet18+resnet18@64"))) == 2


@pytest.mark.parametrize(
    ("backbone", "weights", "words"),
    [
        ("mobilenet_v2", "IMAGENET1K_V3", "mobilenet_v2 has IMAGENET1K_V1, IMAGENET1K_V2"),
        (RESNET, "in99k", "timm's test_resnet has r160_in1k"),
        ("timm/vit_tiny_patch16_224@96", "random", "takes images of 224 pixels only"),
    ],
)
def test_mistakes_are_one_line(backbone: str, weights: str, words: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]*$") as raised:
        preprocessing(config(backbone, weights))
    assert words in str(raised.value)


def test_a_model_of_an_earlier_version_gets_the_images_that_it_was_trained_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"backbone.features.0.0.weight": torch.zeros(1)}, path)
    found = preprocessing(config("efficientnet_b0", str(path), image_size=224))
    assert (found.interpolation, found.mean) == ("bilinear", IMAGENET_MEAN)
    assert round(224 * found.eval_ratio) == 256

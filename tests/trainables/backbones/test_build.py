"""Whole backbones, and what is said of them before a search."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.dog_features import REAL_WEIGHTS
from tests.tiny_networks import EFFICIENTNET, RESNET, tiny_weights
from trainables.backbones.build import build_backbone, check_backbones, weights_used
from trainables.backbones.networks import last_layer, load_backbone, load_classifier, make_network
from trainables.config import DogBreedConfig
from trainables.dog_breed import CONFIG

LITE0 = "timm/tf_efficientnet_lite0"
LITE0_WEIGHTS = Path("weights", "tf_efficientnet_lite0_timm_layout.safetensors")


def config(backbone: str, weights: str, **changes: Any) -> DogBreedConfig:
    return dataclasses.replace(CONFIG, backbone=backbone, weights=weights, **changes)


def test_timms_network_gives_the_features_of_its_last_layer(tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path, RESNET).partition(":")[2]
    theirs = make_network(RESNET, None).eval()
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    backbone, features = load_backbone(RESNET, weights)
    images = torch.randn(2, 3, 64, 64)
    last = last_layer(theirs, RESNET)[1]
    assert features == last.in_features
    assert torch.equal(last(backbone.eval()(images)), theirs(images))


def test_shared_lite0_is_whole(shared_data: Path) -> None:
    path = shared_data / LITE0_WEIGHTS
    backbone, features = load_backbone(LITE0, str(path))
    own, loaded = load_file(path), backbone.state_dict()
    assert features == 1280
    assert all(torch.equal(loaded[k], t) for k, t in own.items() if k in loaded)
    assert {k for k in own if k not in loaded} == {"classifier.weight", "classifier.bias"}
    assert load_classifier(LITE0, str(path))[0].shape == (1000, 1280)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"", b"PK\x03\x04 and no more"])
def test_a_damaged_download_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(ValueError, match="^weights=IMAGENET1K_V1: .*; delete it") as caught:
        make_network("mobilenet_v2", "IMAGENET1K_V1")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_see_their_own_part_of_the_input(tmp_path: Path) -> None:
    told = tiny_weights(tmp_path)
    made = config(f"{RESNET}@64+{EFFICIENTNET}@32", told)
    joined, features = build_backbone(made)
    joined.eval()
    images = torch.randn(2, 6, 64, 64)
    alone = [build_backbone(config(name, told)) for name in (RESNET, EFFICIENTNET)]
    wanted = [
        alone[0][0].eval()(images[:, :3]),
        alone[1][0].eval()(images[:, 3:, :32, :32]),
    ]
    assert features == alone[0][1] + alone[1][1]
    assert torch.equal(joined(images), torch.cat(wanted, 1))


def test_what_is_used_is_said(shared_data: Path) -> None:
    weights = f"mobilenet_v2:{shared_data / REAL_WEIGHTS},{LITE0}:{shared_data / LITE0_WEIGHTS}"
    made = config(f"mobilenet_v2+{LITE0}", weights)
    lines = check_backbones([made, config(LITE0, weights)])
    assert len(lines) == 2
    assert lines[1] == (
        f"backbone {LITE0}: weights {LITE0_WEIGHTS.name}, images of 224 x 224 pixels, bicubic,"
        " short side 1.14 times that, mean 0.5, deviation 0.5"
    )
    assert weights_used(made) == f"mobilenet_v2 {REAL_WEIGHTS.name}, {LITE0} {LITE0_WEIGHTS.name}"
    assert weights_used(config("mobilenet_v2", "imagenet")) == "mobilenet_v2 IMAGENET1K_V2"
    assert weights_used(config(LITE0, "imagenet")) == f"{LITE0} in1k"


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (EFFICIENTNET, "are not those of backbone=timm/test_efficientnet: "),
        ("timm/deit_tiny_distilled_patch16_224", "ends in Identity, not in a linear layer"),
        ("squeezenet1_1", "not in a linear layer"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, backbone: str, words: str) -> None:
    weights = tiny_weights(tmp_path, RESNET).partition(":")[2]
    with pytest.raises(ValueError, match="^[^\n]*$") as raised:
        check_backbones([config(backbone, weights)])
    assert words in str(raised.value)

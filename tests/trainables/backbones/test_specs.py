"""What the knobs `backbone` and `weights` may say, and what they say of each network."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from trainables.backbones.specs import parts, split_weights
from trainables.config import DogBreedConfig, parse_setting
from trainables.dog_breed import CONFIG

JOINED = "mobilenet_v2+timm/tf_efficientnet_lite0@96"


def config(**changes: str) -> DogBreedConfig:
    return dataclasses.replace(CONFIG, **changes)  # type: ignore[arg-type]


def told(found: DogBreedConfig) -> list[tuple[str, str, int]]:
    return [(part.backbone, part.weights, part.image_size) for part in parts(found)]


def test_each_network_has_its_weights_and_its_size(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.pth", "b.safetensors")]
    for file in files:
        file.touch()
    named = f"mobilenet_v2:{files[0]}, timm/tf_efficientnet_lite0:{files[1]}"
    assert told(config(backbone=JOINED, weights=named, image_size="64")) == [
        ("mobilenet_v2", str(files[0]), 64),
        ("timm/tf_efficientnet_lite0@96", str(files[1]), 96),
    ]
    assert {weights for _, weights, _ in told(config(backbone=JOINED, weights="random"))} == {
        "random"
    }
    rest = config(backbone=JOINED, weights=f"timm/tf_efficientnet_lite0:{files[1]},random")
    assert [weights for _, weights, _ in told(rest)] == ["random", str(files[1])]


def test_one_size_may_have_weights_of_its_own() -> None:
    found = config(
        backbone="resnet18+resnet18@64", weights="resnet18:IMAGENET1K_V1,resnet18@64:random"
    )
    assert told(found) == [("resnet18", "IMAGENET1K_V1", 0), ("resnet18@64", "random", 64)]


def test_files_with_commas_and_colons_are_files(tmp_path: Path) -> None:
    odd = tmp_path / "a:b,c.pth"
    odd.touch()
    assert split_weights(str(odd)) == {"": str(odd)}


def test_paths_are_made_absolute_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pth").touch()
    monkeypatch.chdir(tmp_path)
    assert parse_setting(CONFIG, "weights=resnet18:net.pth,random")[1] == (
        f"resnet18:{tmp_path / 'net.pth'},random"
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("backbone=timm/tf_efficientnet_lite_0", "did you mean timm/tf_efficientnet_lite0?"),
        ("backbone=resnet18+resnet_34", "did you mean resnet34?"),
        ("backbone=resnet18+resnet18", "named twice"),
        ("backbone=resnet18@16", "between 32 and 1024"),
        ("backbone=resnet18@big", "write it as NAME or NAME@SIZE"),
        ("backbone=", "write it as NAME or NAME@SIZE"),
        ("weights=resnet18:random,resnet18:imagenet", "two for resnet18"),
        ("weights=resnet18:nowhere.pth", "no file "),
        ("image_size=16", "use 32 to 1024, or 0"),
    ],
)
def test_mistakes_are_one_line(setting: str, words: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]*$") as raised:
        parse_setting(CONFIG, setting)
    assert words in str(raised.value)


def test_a_network_without_weights_is_named() -> None:
    with pytest.raises(ValueError, match="say nothing of mobilenet_v2: add mobilenet_v2:FILE"):
        parts(config(backbone=JOINED, weights="timm/tf_efficientnet_lite0:random"))


def test_without_timm_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"test_resnet needs timm: pip install 'resnet-tune\[timm"):
        parse_setting(CONFIG, "backbone=resnet18+timm/test_resnet")


@pytest.mark.parametrize("change", [{"unfreeze": "1"}, {"head_init": "imagenet", "hidden": "0"}])
def test_what_needs_a_single_network_says_so(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="needs a single network"):
        config(backbone=JOINED, **change)

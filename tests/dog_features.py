"""A handful of dogs and a small frozen network, for tests of the features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model

from data_prep import dog_breed
from tests.packed_folders import write_packed
from trainables.config import DogBreedConfig
from trainables.dog_breed import CONFIG, load_data, start, start_head
from trainables.features.extractor import Extractor
from trainables.features.source import FeatureSource
from trainables.features.store import FeatureStore
from trainables.large_images import load_large_images
from trainables.loop import fit

REAL_WEIGHTS = Path("weights", "mobilenet_v2_features_torchvision_layout.pt")
METRICS = ("train_loss", "valid_loss", "valid_acc", "lr")


def small_config(weights: Path | str, **changes: Any) -> DogBreedConfig:
    """Three epochs of mobilenet_v2 on 64 x 64 pixels, in float32."""
    config = dataclasses.replace(
        CONFIG,
        backbone="mobilenet_v2",
        weights=str(weights),
        image_size=64,
        precision="float32",
        num_epochs=3,
        batch_size=8,
        dropout=0.3,
        lr=0.01,
    )
    return dataclasses.replace(config, **changes)


def made_up_dogs(root: Path, count: int = 20) -> Path:
    """Prepared images of several sizes with something to see on them, in four classes."""
    random = np.random.default_rng(0)
    files = []
    for number in range(count + 3):
        height, width = 48 + 7 * (number % 5), 60 + 5 * (number % 3)
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        files.append(root / "source" / f"dog{number:02d}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height)).save(files[-1])
    labels = [f"breed{number % 4}" for number in range(count)]
    return write_packed(root, dog_breed.LAYOUT, files[:count], labels, files[count:])


def random_weights(path: Path) -> Path:
    """A file of random weights of mobilenet_v2, whose features differ from image to image.

    With BatchNorm's statistics of noise: with an untrained network's they would all but vanish.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = get_model("mobilenet_v2", weights=None)
        see_noise(network)
    torch.save(network.state_dict(), path)
    return path


def see_noise(network: nn.Module) -> None:
    """Give BatchNorm the statistics of noise, from torch's global generator."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all that it sees
    with torch.no_grad():
        network(torch.randn(32, 3, 1, 1) + torch.randn(32, 3, 64, 64))


def from_images(folder: Path, config: DogBreedConfig) -> list[dict[str, float]]:
    """Each epoch's metrics of a training without the store."""
    data = load_large_images(folder, config)
    return list(fit(start(config, data), data.train, data.valid, config))


def from_features(folder: Path, config: DogBreedConfig) -> list[dict[str, float]]:
    """Each epoch's metrics of a training on features, as a trial does it."""
    data = load_data(folder, config)
    source = features_of(data.train)
    return list(fit(start_head(config, data, source.width), source, data.valid, config))


def check_equal(found: list[dict[str, float]], wanted: list[dict[str, float]]) -> None:
    """The same metrics in every epoch, within 1e-5."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert [one[key] for key in METRICS] == pytest.approx(
            [other[key] for key in METRICS], abs=1e-5, rel=0
        )


def features_of(source: object) -> FeatureSource:
    """The source, which must be one of features."""
    assert isinstance(source, FeatureSource)
    return source


def store_of(folder: Path, config: DogBreedConfig) -> FeatureStore:
    """The store of the labelled images."""
    return features_of(load_data(folder, config).train_valid).stores[0]


def forbid_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no image may pass a network."""

    def fail(*_: object) -> Iterator[object]:
        raise AssertionError("the backbone was used again")

    monkeypatch.setattr(Extractor, "run", fail)

"""Several networks side by side: each one's features stored once, joined where they are used."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model

from tests.dog_features import features_of, forbid_computing, made_up_dogs, small_config
from tests.tiny_networks import EFFICIENTNET, RESNET, tiny_weights
from trainables.config import DogBreedConfig
from trainables.data import without_images
from trainables.dog_breed import load_data, saved_metadata, start, start_head
from trainables.features.store import EVAL, Part
from trainables.features.work import feature_work
from trainables.large_images import load_large_images
from trainables.loop import fit, predict

JOINED = f"{RESNET}+{EFFICIENTNET}@48"


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    """Prepared images without a store."""
    return made_up_dogs(tmp_path / "dogs")


@pytest.fixture
def joined(tmp_path: Path) -> DogBreedConfig:
    """Two networks at two sizes."""
    return small_config("random", backbone=JOINED, num_epochs=2, hidden=0, lr=0.1, image_size=64)


@pytest.fixture
def with_weights(joined: DogBreedConfig, tmp_path: Path) -> DogBreedConfig:
    """The same with weights whose features differ from image to image."""
    return dataclasses.replace(joined, weights=tiny_weights(tmp_path))


def alone(config: DogBreedConfig, backbone: str) -> DogBreedConfig:
    return dataclasses.replace(config, backbone=backbone)


def test_joined_features_are_those_of_each_network_one_after_another(
    dogs: Path, with_weights: DogBreedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    singles = [alone(with_weights, name) for name in JOINED.split("+")]
    for store, part in feature_work(dogs, *singles):
        store.obtain(part)
    forbid_computing(monkeypatch)
    sources = [load_data(dogs, config).train for config in (*singles, with_weights)]
    for batches in (
        [list(features_of(source).eval_batches(7)) for source in sources],
        [list(features_of(source).train_batches(5, 2, 0)) for source in sources],
    ):
        for (one, labels), (two, _), (both, theirs) in zip(*batches, strict=True):
            assert torch.equal(both, torch.cat([one, two], 1))
            assert torch.equal(labels, theirs)


def test_a_single_networks_files_are_where_they_were(
    dogs: Path, with_weights: DogBreedConfig
) -> None:
    store = features_of(load_data(dogs, alone(with_weights, RESNET)).train_valid).stores[0]
    first = features_of(load_data(dogs, with_weights).train_valid).stores[0]
    assert store.path(EVAL) == first.path(EVAL)
    plain = dataclasses.replace(with_weights, backbone="resnet18", weights="random", image_size=0)
    store = features_of(load_data(dogs, plain).train_valid).stores[0]
    told = store.ingredients(Part("eval"))
    assert list(told) == [
        "version", "torchvision", "pixels", "shapes", "image_size", "transform", "mean", "std",
        "backbone", "weights", "precision",
    ]  # fmt: skip
    # What 0.1.0 and its successors wrote for every torchvision network.
    assert told["image_size"] == 224
    assert told["transform"] == {"resize": 256 / 224}
    assert told["mean"] == (0.485, 0.456, 0.406)
    assert told["backbone"] == "resnet18"


def test_no_network_drowns_another(dogs: Path, with_weights: DogBreedConfig) -> None:
    source = features_of(load_data(dogs, with_weights).train)
    scaled = torch.cat([inputs for inputs, _ in source.eval_batches(7)]) * source.scale()
    norms = [each.square().sum(1).mean().item() for each in scaled.split(source.widths, 1)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    raw = torch.cat([inputs for inputs, _ in source.eval_batches(7)])
    before = [each.square().sum(1).mean().item() for each in raw.split(source.widths, 1)]
    assert sum(norms) == pytest.approx(sum(before) / 2, rel=1e-4)
    assert len(set(source.scale().tolist())) == 2


def test_the_saved_model_says_of_images_what_the_head_said_of_features(
    dogs: Path, with_weights: DogBreedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_weights
    data = load_data(dogs, config)
    head = start_head(config, data, features_of(data.train).width)
    list(fit(head, data.train, data.valid, config))
    wanted = predict(head.model, data.test, config)
    head.save(tmp_path / "state.pt")
    whole = start(config, data)
    whole.load(tmp_path / "state.pt")
    path = tmp_path / "model.safetensors"
    save_model(whole.model, str(path), saved_metadata(config))
    for file in tmp_path.glob("*.pth"):
        file.unlink()
    forbid_computing(monkeypatch)
    moved = dataclasses.replace(config, weights=str(path))
    loaded = start(moved, without_images(data.classes, data.mean, data.std)).model
    load_model(loaded, str(path))
    loaded.eval()
    images = load_large_images(dogs, moved).test
    with torch.inference_mode():
        found = torch.cat([loaded(inputs) for inputs, _ in images.eval_batches(4)])
        known = torch.cat([head.model.eval()(inputs) for inputs, _ in data.test.eval_batches(4)])
    assert known.std() > 1e-3
    torch.testing.assert_close(found, known, rtol=0, atol=1e-4)
    again = predict(loaded, load_data(dogs, moved).test, moved)  # by the parts' own stores
    np.testing.assert_allclose(again, wanted, atol=1e-5)


def test_random_networks_are_the_same_alone_and_joined(dogs: Path, joined: DogBreedConfig) -> None:
    stores = features_of(load_data(dogs, joined).train_valid).stores
    single = features_of(load_data(dogs, alone(joined, f"{EFFICIENTNET}@48")).train_valid)
    assert stores[1].path(EVAL) == single.stores[0].path(EVAL)


def test_the_work_of_several_choices_has_nothing_twice(
    dogs: Path, with_weights: DogBreedConfig
) -> None:
    choices = [alone(with_weights, name) for name in (*JOINED.split("+"), JOINED)]
    work = feature_work(dogs, *choices)
    assert len(work) == len({store.path(part) for store, part in work}) == 2 * (1 + 2 + 1)
    assert {part for _, part in work[:4]} == {EVAL, Part("view", 0)}
    assert len(feature_work(dogs, with_weights)) == len(work)

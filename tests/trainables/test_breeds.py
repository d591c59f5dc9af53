"""Kaggle's 120 breeds among ImageNet's classes, and a head that begins with their rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision.models import ResNet34_Weights, get_model

from tests.dog_features import small_config
from trainables.backbones.networks import load_classifier
from trainables.breeds import DOGS, copy_rows, imagenet_indices
from trainables.data import without_images
from trainables.dog_breed import build_head

# A few by hand, from ILSVRC 2012's list of classes (counted from 0).
KNOWN = {
    "chihuahua": 151,
    "german_short-haired_pointer": 210,
    "golden_retriever": 207,
    "cardigan": 264,
    "pug": 254,
    "mexican_hairless": 268,
    "dingo": 273,
    "african_hunting_dog": 275,
}


def test_every_breed_of_the_competition_has_a_class_of_its_own(shared_data: Path) -> None:
    with (shared_data / "dog_kaggle_labels.csv").open() as file:
        breeds = sorted({row["breed"] for row in csv.DictReader(file)})
    assert len(breeds) == 120
    indices = imagenet_indices(breeds)
    assert len(set(indices)) == 120
    assert set(DOGS) - set(indices) == {251}, "only dalmatians are not in the competition"
    names = ResNet34_Weights.IMAGENET1K_V1.meta["categories"]
    for breed, index in zip(breeds, indices, strict=True):
        assert breed.replace("_", "").replace("-", "") == (
            names[index].lower().replace(" ", "").replace("-", "").replace("'", "").replace(".", "")
        )


def test_known_breeds_are_where_imagenet_has_them() -> None:
    assert imagenet_indices(list(KNOWN)) == list(KNOWN.values())


def test_what_is_no_dog_is_refused() -> None:
    with pytest.raises(ValueError, match="tabby is no dog of ImageNet"):
        imagenet_indices(["pug", "tabby"])


def test_the_head_predicts_what_the_classifier_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = get_model("mobilenet_v2", weights=None)
    path = tmp_path / "whole.pt"
    torch.save(network.state_dict(), path)
    config = small_config(path, hidden=0, head_init="imagenet")
    head = build_head(config, 1280, without_images(tuple(KNOWN), (), ())).eval()
    features = torch.randn(5, 1280)
    classifier = network.classifier.eval()
    wanted = classifier(features)[:, list(KNOWN.values())]
    torch.testing.assert_close(head(features), wanted)


def test_weights_without_the_classifier_are_refused(shared_data: Path) -> None:
    path = shared_data / "weights" / "mobilenet_v2_features_torchvision_layout.pt"
    with pytest.raises(ValueError, match=r"hold no classifier \(classifier.1.weight\)"):
        load_classifier("mobilenet_v2", str(path))
    with pytest.raises(ValueError, match="hold no classifier"):
        load_classifier("mobilenet_v2", "random")
    with pytest.raises(ValueError, match="1000 classes"):
        copy_rows(nn.Linear(4, 1), ["pug"], torch.zeros(10, 4), torch.zeros(10))


def test_a_hidden_layer_cannot_have_the_classifiers_rows() -> None:
    with pytest.raises(ValidationError, match="set hidden=0 first"):
        small_config("random", head_init="imagenet")

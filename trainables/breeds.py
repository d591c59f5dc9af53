"""Kaggle's breeds among ImageNet's classes: where a breed's row in a pretrained last layer is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import ResNet34_Weights

# ILSVRC 2012's domestic dogs, then dingo, dhole and African hunting dog. Outside of them a name may
# mean something else: `cardigan` is 264, a corgi, and 474, a garment.
DOGS = (*range(151, 269), 273, 274, 275)


def imagenet_indices(breeds: Sequence[str]) -> list[int]:
    """The class number, 0 to 999, of each breed. Raises ValueError for what ImageNet lacks."""
    names: list[str] = ResNet34_Weights.IMAGENET1K_V1.meta["categories"]
    known = {plain(names[index]): index for index in DOGS}
    unknown = [breed for breed in breeds if plain(breed) not in known]
    if unknown:
        raise ValueError(
            f"head_init=imagenet: {unknown[0]} is no dog of ImageNet ({len(unknown)} classes)"
        )
    return [known[plain(breed)] for breed in breeds]


def plain(name: str) -> str:
    """Kaggle writes `german_short-haired_pointer`, ImageNet `German short-haired pointer`."""
    return name.lower().replace("-", "_").replace(" ", "_").replace("'", "").replace(".", "")


def copy_rows(layer: nn.Linear, breeds: Sequence[str], weight: Tensor, bias: Tensor) -> None:
    """Give a layer (C, F) its classes' rows of the classifier: weight (1000, F), bias (1000,)."""
    if weight.shape != (1000, layer.in_features):
        raise ValueError(
            f"head_init=imagenet needs a classifier of 1000 classes, not {tuple(weight.shape)}"
        )
    rows = imagenet_indices(breeds)
    with torch.no_grad():
        layer.weight.copy_(weight[rows])
        layer.bias.copy_(bias[rows])

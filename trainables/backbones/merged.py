"""Several linear heads on the same frozen features as one: their logits averaged.

    sum_m w_m (W_m x + b_m) = (sum_m w_m W_m) x + sum_m w_m b_m

The average of logits is not that of probabilities: who chooses members and weights of what is
merged must average logits, too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from trainables.backbones.fine_tuned import FineTuned
from trainables.config import DogBreedConfig


def merge_key(config: DogBreedConfig) -> str | None:
    """What heads that can be merged have in common, in one study; None for one that cannot be."""
    if config.hidden or config.unfreeze or config.weights == "random":
        return None
    return f"{config.backbone} at {config.image_size}"


def merge(models: Sequence[FineTuned], weights: Sequence[float]) -> FineTuned:
    """One model with the weighted mean of the heads' logits; the weights sum to 1.

    All models have the same backbone, and the same scale of its features.
    """
    merged, shares = copy.deepcopy(models[0]), torch.tensor(weights, dtype=torch.float64)
    last, layers = last_layer(merged), [last_layer(model) for model in models]
    with torch.no_grad():
        for name in ("weight", "bias"):
            each = torch.stack([getattr(layer, name).double().cpu() for layer in layers])
            getattr(last, name).copy_(torch.tensordot(shares, each, dims=1))
    return merged


def last_layer(model: FineTuned) -> nn.Linear:
    """The linear layer that the head ends in."""
    assert isinstance(model.head, nn.Sequential)
    layer = model.head[-1]
    assert isinstance(layer, nn.Linear)
    return layer

"""Task `dog_breed`: a new head on a frozen ImageNet network (torchvision's ResNet-34).

The notes' numbers are `CONFIG`: head Linear 512-256, ReLU, Linear 256-120; SGD with lr 0.03,
momentum 0.9, weight decay 1e-4, batch 128, 20 epochs, lr x 0.1 every 10; random 224x224 crops,
flips and colours.
The dogs are a subset of ImageNet: such a backbone has seen many of these images.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.backbones.build import build_backbone, weights_used
from trainables.backbones.build import check_backbones as check_backbones
from trainables.backbones.fine_tuned import FineTuned, Scaled, make_head
from trainables.backbones.merged import merge as merge
from trainables.backbones.merged import merge_key as merge_key
from trainables.backbones.networks import last_name, load_classifier
from trainables.backbones.preprocessing import preprocessings as preprocessings
from trainables.backbones.preprocessing import saved_metadata as saved_metadata
from trainables.backbones.specs import TIMM, name_and_size
from trainables.breeds import copy_rows
from trainables.config import DogBreedConfig
from trainables.data import Source, TaskData, stream_seed
from trainables.features.partly import PartlyFrozen, load_partly_frozen
from trainables.features.source import FeatureSource, load_features
from trainables.features.work import feature_notes as feature_notes
from trainables.features.work import feature_work as feature_work
from trainables.large_images import other_large_images
from trainables.loop import fit
from trainables.reporting import knobs_of, report_epochs
from trainables.state import TrainState, new_state

CONFIG = DogBreedConfig()
# One value in a whole study: all trials share the images' views, and the features made of them.
STUDY_SETTINGS = (
    "weights",
    "num_views",
    "view_seed",
    "min_area",
    "jitter",
    "resize_ratio",
    "interpolation",
    "normalise",
    "precision",
    "cache_prefix",
)
# Each value of these has features of its own; a search may try several values, if they are listed.
FEATURE_KNOBS = ("backbone", "image_size", "unfreeze")


def load_data(data_dir: Path, config: DogBreedConfig) -> TaskData:
    """The prepared images of `data_dir`, or what the frozen part of the backbone makes of them.

    Raises ValueError when they cannot be used.
    """
    load = load_partly_frozen if config.unfreeze else load_features
    return load(data_dir, config)


def images_data(
    pixels: NDArray[np.uint8],
    shapes: NDArray[np.int32] | None,
    data: TaskData,
    config: DogBreedConfig,
) -> Source:
    """Other decoded images to predict: all their bytes one after another, int32 (N, 2) shapes."""
    assert shapes is not None
    return other_large_images(torch.from_numpy(pixels), shapes, config)


def build_model(config: DogBreedConfig, data: TaskData) -> FineTuned:
    """The backbone under a new head. Raises ValueError when the weights do not fit."""
    backbone, num_features = build_backbone(config)
    head = build_head(config, num_features, data)
    return FineTuned(backbone, head, config.unfreeze, config.freeze_norms)


def build_head(config: DogBreedConfig, num_features: int, data: TaskData) -> nn.Sequential:
    """A new head, the same with and without a backbone: its random numbers are its own.

    On several networks it begins by scaling their features, as the training set has them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.seed, 0, "head"))
        head = make_head(num_features, config.hidden, config.dropout, len(data.classes))
    if config.head_init == "imagenet":
        last = head[-1]
        assert isinstance(last, nn.Linear)
        copy_rows(last, data.classes, *load_classifier(config.backbone, config.weights))
    if "+" not in config.backbone:
        return head
    scale = torch.ones(num_features)  # will be loaded, where no features are known
    if isinstance(data.train, FeatureSource):
        scale = data.train.scale()
    return nn.Sequential(Scaled(scale), *head)


def plain_network(model: FineTuned, config: DogBreedConfig) -> tuple[nn.Module, list[str]]:
    """The library's network with the head for its last layer, and the Python that makes such a one.

    Without dropout, which does nothing in a trained network. Several joined stay as they are, and
    no few lines make them.
    """
    if "+" in config.backbone:
        return copy.deepcopy(model), []
    network, place = copy.deepcopy(model.backbone), last_name(config.backbone)
    layers = [layer for layer in model.head.children() if not isinstance(layer, nn.Dropout)]
    head = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
    network.set_submodule(place, copy.deepcopy(head))
    code = ", ".join(
        f"torch.nn.Linear({layer.in_features}, {layer.out_features})"
        if isinstance(layer, nn.Linear)
        else f"torch.nn.{type(layer).__name__}()"
        for layer in layers
    )
    name = name_and_size(config.backbone)[0]
    made = f'torchvision.models.get_model("{name}")'
    if name.startswith(TIMM):
        made = f'timm.create_model("{name.removeprefix(TIMM)}")'
    return network, [
        f"model = {made}.eval()",
        f'model.set_submodule("{place}", '
        + (code if len(layers) == 1 else f"torch.nn.Sequential({code})")
        + ")",
    ]


def start(config: DogBreedConfig, data: TaskData) -> TrainState:
    """A training at its beginning, with the backbone: it can be saved, and predicts images."""
    rates = {"backbone.": config.backbone_lr}
    state = new_state(lambda: build_model(config, data), config, rates)
    if config.unfreeze and config.head_epochs:
        state.begin = functools.partial(train_head_first, config=config, data=data)
    return state


def train_head_first(
    state: TrainState, train: Source, config: DogBreedConfig, data: TaskData
) -> None:
    """The head alone, as on a frozen backbone: what is random would spoil the other stages.

    Kumar et al. 2022 (2202.10054), LP-FT.
    """
    assert isinstance(train, PartlyFrozen)
    assert isinstance(state.network, FineTuned)
    alone = dataclasses.replace(
        config, unfreeze=0, num_epochs=config.head_epochs, schedule="cosine", warmup=0.0
    )
    first = start_head(alone, data, train.crops.width)
    for _ in fit(first, train.crops, None, alone):
        pass
    assert isinstance(first.network, FineTuned)
    state.network.head.load_state_dict(first.network.head.state_dict())


def start_head(config: DogBreedConfig, data: TaskData, num_features: int) -> TrainState:
    """A training of the head alone, on features; its checkpoints are those of `start`."""
    return new_state(
        lambda: FineTuned(nn.Identity(), build_head(config, num_features, data)), config
    )


def trainable(
    config: Mapping[str, Any],
    *,
    data_dir: str,
    checkpoint_epochs: Sequence[int] = (),
    checkpoint_seconds: float = 60.0,
) -> None:
    """One trial for Ray Tune; `config` holds knobs and the search's own `_names`."""
    knobs = dataclasses.replace(CONFIG, **knobs_of(config))
    data = load_data(Path(data_dir), knobs)
    if isinstance(data.train, FeatureSource):
        path, state = "features", start_head(knobs, data, data.train.width)
    else:
        kept = isinstance(data.train, PartlyFrozen) and data.train.activations is not None
        path, state = "activations" if kept else "images", start(knobs, data)
    report_epochs(
        state,
        data.train,
        data.valid,
        knobs,
        resume_from=config.get("_resume_from"),
        checkpoint_epochs=checkpoint_epochs,
        checkpoint_seconds=checkpoint_seconds,
        facts={"path": path, "weights": weights_used(knobs)},
        metric=config.get("_metric", "valid_acc"),
    )

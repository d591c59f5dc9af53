"""A configuration's whole backbone, and what a user should know of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from trainables.backbones.fine_tuned import Joined
from trainables.backbones.networks import file_of, load_backbone, weights_of
from trainables.backbones.preprocessing import preprocessing, preprocessings
from trainables.backbones.specs import label, parts
from trainables.backbones.stages import last_stages
from trainables.config import DogBreedConfig
from trainables.device import resolve
from trainables.state import seeded


def build_network(config: DogBreedConfig) -> tuple[nn.Module, int]:
    """One network (`specs.parts`) and the number of its features.

    Random weights are those of the trial's seed, alone and beside others.
    """
    with seeded(resolve(config), config.seed, 0):
        return load_backbone(config.backbone, config.weights)


def build_backbone(config: DogBreedConfig) -> tuple[nn.Module, int]:
    """The whole backbone and the number of its features.

    Raises ValueError when weights cannot be had or do not fit.
    """
    members = parts(config)
    built = [build_network(part) for part in members]
    if len(members) == 1:
        return built[0]
    ways = preprocessings(config)
    places = []
    for part in members:
        way = preprocessing(part)
        places.append((ways.index(way), way.size))
    networks = {
        label(part.backbone): network for part, (network, _) in zip(members, built, strict=True)
    }
    return Joined(networks, places), sum(width for _, width in built)


def check_backbones(configs: Sequence[DogBreedConfig]) -> list[str]:
    """A line about each network and its weights.

    Raises ValueError for one that cannot be used: names, files and layers are looked at, nothing is
    downloaded.
    """
    lines = [check_network(part) for config in configs for part in parts(config)]
    return list(dict.fromkeys(lines))


@functools.cache
def check_network(part: DogBreedConfig) -> str:
    """As `check_backbones`, for one network."""
    way = preprocessing(part)
    here = file_of(part.weights) is not None
    network = load_backbone(part.backbone, part.weights if here else "random")[0]
    last_stages(network, part.unfreeze)
    return (
        f"backbone {part.backbone}: weights {weights_of(part.backbone, part.weights)}, images of"
        f" {way.size} x {way.size} pixels, {way.interpolation}, short side {way.eval_ratio:.3g}"
        f" times that, mean {shown(way.mean)}, deviation {shown(way.std)}"
    )


def weights_used(config: DogBreedConfig) -> str:
    """Which weights each network has, for the records."""
    return ", ".join(f"{p.backbone} {weights_of(p.backbone, p.weights)}" for p in parts(config))


def shown(numbers: Sequence[float]) -> str:
    """Of three channels: one number where they are the same."""
    return " ".join(f"{number:g}" for number in dict.fromkeys(numbers))

"""Images for a partly unfrozen network: what its frozen part makes of them, where that fits.

The activations at the cut are the same in every trial, so each image and view passes the frozen
part once, as it does a wholly frozen network; they lie in a store as features do. Where they would
take more disk than `cache_prefix` allows, the images pass the whole network in every epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.fx import Interpreter

from trainables.backbones.cut import cut
from trainables.backbones.networks import load_backbone
from trainables.backbones.specs import parts
from trainables.config import DogBreedConfig
from trainables.data import CENTRE, Batch, TaskData
from trainables.features.source import FeatureSource, images_of, make_store, settle_precision
from trainables.features.store import EVAL, FeatureStore, Part
from trainables.files import size_in_bytes
from trainables.large_images import LargeImages, load_large_images

AUTO_BYTES = 20e9  # that `auto` allows, if twice as much is free: some views of all Kaggle's dogs


@dataclass(frozen=True)
class PartlyFrozen:
    """A source of images, or of the frozen part's activations: the same order, the same views."""

    images: LargeImages
    crops: FeatureSource
    """Features of the whole network, as long as it is not trained: of the central crops."""
    activations: FeatureSource | None
    """In a row; None where they are not kept."""
    shape: tuple[int, ...]
    """Of an image's."""

    def __len__(self) -> int:
        return len(self.images)

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """View (epoch - 1) mod num_views of each image, in a random order."""
        if self.activations is None:
            return self.images.train_batches(batch_size, epoch, seed)
        return map(self.shaped, self.activations.train_batches(batch_size, epoch, seed))

    @property
    def looks(self) -> tuple[str, ...]:
        """Those of the images."""
        return self.images.looks

    def eval_batches(self, batch_size: int, look: str = CENTRE) -> Iterator[Batch]:
        """The central crop of each image, or another look at it."""
        if self.activations is None or look != CENTRE:
            return self.images.eval_batches(batch_size, look)
        return map(self.shaped, self.activations.eval_batches(batch_size))

    def shaped(self, batch: Batch) -> Batch:
        """As the network has them."""
        inputs = batch[0].view(-1, *self.shape)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=self.images.machine.memory_format)
        return inputs, batch[1]


@dataclass(frozen=True)
class Activations:
    """What the frozen part of a network makes of the labelled images, and whether it is kept."""

    store: FeatureStore
    features: FeatureStore
    """Of the whole network, none of it trained."""
    num_views: int
    shape: tuple[int, ...] | None
    """Of an image's; None where the network cannot be cut."""

    @property
    def views(self) -> list[Part]:
        """All that a training needs."""
        return [EVAL, *(Part("view", number) for number in range(self.num_views))]

    @property
    def size(self) -> int:
        """Bytes of all."""
        one = 4 * math.prod(self.shape or ())
        return len(self.views) * len(self.store.images) * one

    @property
    def allowed(self) -> float:
        """Bytes that `cache_prefix` allows; what is there already counts as free."""
        told = self.store.config.cache_prefix
        if told != "auto":
            return float(0 if told == "none" else size_in_bytes(told))
        there = sum(self.store.path(part).exists() for part in self.views) / len(self.views)
        free = shutil.disk_usage(self.store.root).free + there * self.size
        return min(AUTO_BYTES, free / 2)

    @property
    def kept(self) -> bool:
        """Whether they fit."""
        return self.shape is not None and self.size <= self.allowed

    def __str__(self) -> str:
        told = f"cache_prefix={self.store.config.cache_prefix}: {self.store.described}"
        if self.shape is None:
            return f"{told} cannot be told from the rest: images pass the whole network each epoch"
        takes = f"{told} makes {self.size / 1e9:.3g} GB of {len(self.store.images):,} images x"
        takes += f" {self.num_views} views and the central crop"
        if self.kept:
            return f"{takes}: kept, each is computed once"
        return f"{takes}, {self.allowed / 1e9:.3g} GB are allowed: computed anew each epoch"


def find_activations(data_dir: Path, images: LargeImages, config: DogBreedConfig) -> Activations:
    """Those of the labelled images."""
    (part,) = parts(settle_precision(config))
    store, features = (
        make_store(data_dir, "train_valid", images, each)
        for each in (part, dataclasses.replace(part, unfreeze=0))
    )
    shape = shape_at_cut(part.backbone, part.unfreeze, store.images.ways[0].size)
    return Activations(store, features, min(images.num_views, config.num_epochs), shape)


@functools.lru_cache
def shape_at_cut(backbone: str, unfreeze: int, size: int) -> tuple[int, ...] | None:
    """Of one image's activations; None where the network cannot be cut in two, or needs not be."""
    with torch.random.fork_rng(devices=[]):
        network = load_backbone(backbone, "random")[0].eval()
    graphs = cut(network, unfreeze)
    if graphs is None:
        return None
    with torch.inference_mode():
        found = Interpreter(network, graph=graphs[0]).run(torch.zeros(1, 3, size, size))
    return tuple(found.shape[1:]) if found.ndim > 2 else None  # features have two dimensions


def uses_store(config: DogBreedConfig) -> bool:
    """Whether a partly unfrozen network may keep anything."""
    return config.head_epochs > 0 or config.cache_prefix != "none"


def load_partly_frozen(data_dir: Path, config: DogBreedConfig) -> TaskData:
    """As `load_large_images`, for a network of which some stages are trained."""
    data = load_large_images(data_dir, config)
    if not uses_store(config):
        return data
    everything = images_of(data.train_valid)
    found = find_activations(data_dir, everything, config)

    def source(images: LargeImages) -> PartlyFrozen:
        def of(store: FeatureStore, num_views: int) -> FeatureSource:
            return FeatureSource((store,), images.labels, images.rows, num_views, images.machine)

        kept = of(found.store, images.num_views) if found.kept else None
        return PartlyFrozen(images, of(found.features, 0), kept, found.shape or ())

    return dataclasses.replace(
        data,
        train=source(images_of(data.train)),
        valid=source(images_of(data.valid)),
        train_valid=source(everything),
    )

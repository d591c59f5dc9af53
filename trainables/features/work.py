"""What a study needs of the store, in the order in which it is needed."""

from __future__ import annotations

import itertools
from pathlib import Path

from trainables.config import DogBreedConfig
from trainables.features.partly import Activations, find_activations, uses_store
from trainables.features.source import FeatureSource, images_of, load_features
from trainables.features.store import EVAL, MIRRORED, FeatureStore, Part
from trainables.large_images import load_large_images

Work = list[tuple[FeatureStore, Part]]


def feature_work(data_dir: Path, *configs: DogBreedConfig) -> Work:
    """What a study, its retraining and its prediction need, in the order in which it is needed.

    `configs`: one for each backbone that is searched. Parts that several of them need come once;
    the first parts of all come first.
    """
    works = [
        (partly_frozen_work if config.unfreeze else frozen_work)(data_dir, config)
        for config in configs
    ]
    in_order = itertools.chain(*itertools.zip_longest(*works))
    found = {store.path(part): (store, part) for store, part in filter(None, in_order)}
    return list(found.values())


def frozen_work(data_dir: Path, config: DogBreedConfig) -> Work:
    """As `feature_work`, for one backbone that is frozen: its features."""
    data = load_features(data_dir, config)
    assert isinstance(data.train_valid, FeatureSource)
    assert isinstance(data.test, FeatureSource)
    numbers = range(min(data.train_valid.num_views, config.num_epochs))
    labelled = [EVAL, *(Part("view", number) for number in numbers)]
    if config.num_folds:  # which looks to average over is decided on the folds
        labelled.append(MIRRORED)
    work = [(store, part) for part in labelled for store in data.train_valid.stores]
    return work + [(store, EVAL) for store in data.test.stores if len(data.test)]


def partly_frozen_work(data_dir: Path, config: DogBreedConfig) -> Work:
    """As `feature_work`, for one backbone of which some stages are trained.

    The features of the central crops, on which the head begins, and what is kept of the frozen
    part; test images pass the network once, when they are predicted.
    """
    if not uses_store(config):
        return []
    found = activations(data_dir, config)
    work = [(found.features, EVAL)] if config.head_epochs else []
    return work + [(found.store, part) for part in found.views if found.kept]


def feature_notes(data_dir: Path, *configs: DogBreedConfig) -> list[str]:
    """A line about each frozen part of a network: what is kept of it."""
    partly = [c for c in configs if c.unfreeze and c.cache_prefix != "none"]
    return [str(activations(data_dir, config)) for config in partly]


def activations(data_dir: Path, config: DogBreedConfig) -> Activations:
    """What the frozen part of one backbone makes of the labelled images."""
    images = images_of(load_large_images(data_dir, config).train_valid)
    return find_activations(data_dir, images, config)

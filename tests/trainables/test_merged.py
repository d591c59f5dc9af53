"""Linear heads on the same features merged into one say what their averaged logits say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from search.finishing.mixture import mix
from tests.dog_features import features_of, made_up_dogs, random_weights, small_config
from trainables.backbones.fine_tuned import FineTuned
from trainables.config import DogBreedConfig
from trainables.data import CENTRE, MIRRORED, TaskData
from trainables.dog_breed import load_data, merge, merge_key, start_head
from trainables.loop import fit, look_logits, predict


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DogBreedConfig:
    weights = random_weights(tmp_path_factory.mktemp("weights") / "weights.pt")
    return small_config(weights, hidden=0, num_epochs=2, num_views=2)


@pytest.fixture(scope="module")
def data(config: DogBreedConfig, tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return load_data(made_up_dogs(tmp_path_factory.mktemp("dogs")), config)


def trained(config: DogBreedConfig, data: TaskData) -> FineTuned:
    """A head after two epochs."""
    state = start_head(config, data, features_of(data.train).width)
    for _ in fit(state, data.train, data.valid, config):
        pass
    assert isinstance(state.model, FineTuned)
    return state.model


def test_merged_is_unmerged(config: DogBreedConfig, data: TaskData) -> None:
    """On every look at the images that were held out; and what was selected is what predicts."""
    configs = [config, replace(config, lr=0.1, seed=1), replace(config, dropout=0.0, lr=0.03)]
    models = [trained(each, data) for each in configs]
    merged = merge(models, [0.5, 0.25, 0.25])
    each = {
        look: [look_logits(model, data.valid, config, look) for model in models]
        for look in (CENTRE, MIRRORED)
    }
    for look, logits in each.items():
        wanted = 0.5 * logits[0] + 0.25 * logits[1] + 0.25 * logits[2]
        found = look_logits(merged, data.valid, config, look)
        assert torch.allclose(found, wanted, atol=1e-5)
        assert not torch.allclose(found, logits[0], atol=1e-3)
    keys = [(f"t{number}", 0) for number in range(3)]
    seen = {k: np.stack([each[look][n].numpy() for look in each]) for n, k in enumerate(keys)}
    selected = mix(dict(zip(keys, (2, 1, 1), strict=True)), seen, dict.fromkeys(keys, "one"))
    probabilities = predict(merged, data.valid, config, (MIRRORED,)).numpy()
    np.testing.assert_allclose(probabilities, selected, atol=1e-6)


def test_what_can_be_merged(config: DogBreedConfig) -> None:
    assert merge_key(config) == merge_key(replace(config, lr=0.5, seed=7)) == "mobilenet_v2 at 64"
    assert merge_key(replace(config, hidden=16)) is None
    assert merge_key(replace(config, unfreeze=1)) is None
    assert merge_key(replace(config, weights="random")) is None
    assert merge_key(replace(config, image_size=96)) != merge_key(config)

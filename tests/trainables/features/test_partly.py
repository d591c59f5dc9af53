"""Partly unfrozen networks: the frozen part computed once, the head first, rates of their own."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.dog_features import (
    METRICS,
    check_equal,
    forbid_computing,
    made_up_dogs,
    random_weights,
    small_config,
)
from tests.tiny_networks import EFFICIENTNET, tiny_weights
from trainables.config import DogBreedConfig
from trainables.dog_breed import load_data, start
from trainables.features.partly import PartlyFrozen
from trainables.features.store import EVAL
from trainables.features.work import feature_notes, feature_work
from trainables.loop import fit, predict

Make = Callable[..., DogBreedConfig]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of mobilenet_v2."""
    return random_weights(tmp_path_factory.mktemp("weights") / "mobilenet.pt")


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    """Prepared images without a store."""
    return made_up_dogs(tmp_path / "dogs")


@pytest.fixture
def make(weights: Path) -> Make:
    """A training of mobilenet_v2's last two stages."""

    def changed(**changes: Any) -> DogBreedConfig:
        return small_config(weights, **{"unfreeze": 2, "lr": 0.003, **changes})

    return changed


def train(folder: Path, config: DogBreedConfig) -> list[dict[str, float]]:
    data = load_data(folder, config)
    return list(fit(start(config, data), data.train, data.valid, config))


def keeps(folder: Path, config: DogBreedConfig) -> bool:
    source = load_data(folder, config).train
    return isinstance(source, PartlyFrozen) and source.activations is not None


def test_kept_activations_change_no_loss(
    dogs: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(cache_prefix="none", num_views=2)
    wanted = train(dogs, plain)
    assert not list((dogs / "features").rglob("*.npy"))
    kept = dataclasses.replace(plain, cache_prefix="auto")
    check_equal(train(dogs, kept), wanted)
    written = sorted(path.name for path in (dogs / "features").rglob("*.npy"))
    assert written == ["eval.npy", "view_0000.npy", "view_0001.npy"]
    assert wanted[-1]["train_loss"] < wanted[0]["train_loss"]
    forbid_computing(monkeypatch)
    wanted = train(dogs, dataclasses.replace(plain, seed=1, dropout=0.0))  # another trial
    check_equal(train(dogs, dataclasses.replace(kept, seed=1, dropout=0.0)), wanted)


def test_gradients_of_pieces_add_up_to_those_of_the_batch(dogs: Path, make: Make) -> None:
    whole = make(freeze_norms=True, dropout=0.0, label_smoothing=0.1, batch_size=7)
    wanted = train(dogs, whole)
    assert wanted[-1]["train_loss"] != wanted[0]["train_loss"]
    for images in (1, 3, 100):
        check_equal(train(dogs, dataclasses.replace(whole, micro_batch_size=images)), wanted)
    normed = dataclasses.replace(whole, freeze_norms=False)  # batch norms see what is there at once
    pieces = train(dogs, dataclasses.replace(normed, micro_batch_size=3))
    assert abs(pieces[0]["train_loss"] - train(dogs, normed)[0]["train_loss"]) > 1e-4


def test_a_network_of_timm_is_cut_too(dogs: Path, tmp_path: Path) -> None:
    config = small_config(
        tiny_weights(tmp_path, EFFICIENTNET).partition(":")[2],
        backbone=EFFICIENTNET,
        unfreeze=3,
        cache_prefix="none",
        num_epochs=2,
        lr=0.003,
    )
    kept = dataclasses.replace(config, cache_prefix="1GB")
    assert keeps(dogs, kept)
    check_equal(train(dogs, kept), train(dogs, config))


def test_the_budget_decides(dogs: Path, make: Make) -> None:
    size = 20 * 4 * 160 * 2 * 2 * 4  # images, files, channels, height, width, bytes
    said = f"up to its last 2 stages makes {size / 1e9:.3g} GB of 20 images x 3 views and the"
    for budget, kept in ((f"{size}B", True), (f"{size - 1}B", False)):
        config = make(cache_prefix=budget)
        (line,) = feature_notes(dogs, config)
        assert said in line
        assert ("each is computed once" in line) == kept
        assert keeps(dogs, config) == bool(feature_work(dogs, config)) == kept
    everything = make(unfreeze=19)
    (line,) = feature_notes(dogs, everything)
    assert "cannot be told from the rest" in line  # nothing is frozen
    assert not keeps(dogs, everything)
    with pytest.raises(ValueError, match="plenty: give auto, none, or a size such as 5GB"):
        make(cache_prefix="plenty")


def test_without_a_store_nothing_is_written(dogs: Path, make: Make) -> None:
    config = make(cache_prefix="none", num_epochs=1)
    assert not feature_notes(dogs, config)
    assert not feature_work(dogs, config)
    assert len(train(dogs, config)) == 1
    assert not (dogs / "features").exists()


def test_what_a_search_computes_first_is_all_that_its_trials_need(
    dogs: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(head_epochs=2, num_views=2)
    work = feature_work(dogs, dataclasses.replace(config, unfreeze=0), config)
    names = [(store.config.unfreeze, part.name) for store, part in work]
    assert names[:4] == [(0, "eval"), (0, "view_0000"), (2, "eval"), (0, "view_0001")]
    assert names[4:] == [(2, "view_0000"), (0, "eval"), (2, "view_0001")]
    for store, part in work:
        store.obtain(part)
    assert work[0][0].obtain(EVAL).shape == (20, 1280)
    forbid_computing(monkeypatch)
    assert len(train(dogs, config)) == 3


def heads(folder: Path, config: DogBreedConfig) -> dict[str, torch.Tensor]:
    """The head's tensors as the first epoch finds them."""
    data = load_data(folder, config)
    state = start(config, data)
    assert (state.begin is not None) == bool(config.head_epochs)
    if state.begin is not None:
        state.begin(state, data.train)
    return {key: tensor.clone() for key, tensor in state.network.state_dict().items()}


def test_the_head_is_trained_first_and_nothing_else(dogs: Path, make: Make) -> None:
    random = heads(dogs, make())
    first = heads(dogs, make(head_epochs=3))
    changed = {key for key in random if not torch.equal(random[key], first[key])}
    assert changed == {key for key in random if key.startswith("head.")}


def test_the_head_is_trained_on_the_images_at_hand_and_once(
    dogs: Path, make: Make, tmp_path: Path
) -> None:
    config = make(head_epochs=3, dropout=0.0, num_epochs=2)
    data = load_data(dogs, config)
    trained = []
    for source in (data.train, data.train_valid):
        state = start(config, data)
        assert state.begin is not None
        state.begin(state, source)
        trained.append(state.network.state_dict()["head.0.weight"])
    assert not torch.equal(*trained)
    state = start(config, data)
    epochs = fit(state, data.train, data.valid, config)
    next(epochs)
    state.save(tmp_path / "state.pt")
    (wanted,) = epochs
    resumed = start(config, data)
    resumed.load(tmp_path / "state.pt")
    resumed.begin = None  # it must not be asked
    (last,) = fit(resumed, data.train, data.valid, config)
    assert [last[key] for key in METRICS] == [wanted[key] for key in METRICS]
    shutil.rmtree(dogs / "features")
    assert predict(state.model, data.test, config).shape == (3, 4)


def test_the_unfrozen_stages_have_a_rate_of_their_own(dogs: Path, make: Make) -> None:
    config = make(backbone_lr=1e-9, momentum=0.0, weight_decay=0.0, num_epochs=1)
    data = load_data(dogs, config)
    state = start(config, data)
    before = {name: p.clone() for name, p in state.network.named_parameters()}
    list(fit(state, data.train, data.valid, config))
    for name, parameter in state.network.named_parameters():
        if parameter.requires_grad:
            moved = (parameter - before[name]).abs().max()
            assert moved > 1e-6 if name.startswith("head.") else moved < 1e-6, name
    rates = {group["lr"] for group in state.optimizer.param_groups}
    assert max(rates) / min(rates) == pytest.approx(1e9)


@pytest.mark.parametrize("freeze_norms", [False, True])
def test_norms_of_the_unfrozen_stages_change_or_not(
    dogs: Path, make: Make, freeze_norms: bool
) -> None:
    config = make(freeze_norms=freeze_norms, num_epochs=1)
    data = load_data(dogs, config)
    state = start(config, data)
    before = {key: tensor.clone() for key, tensor in state.network.state_dict().items()}
    list(fit(state, data.train, data.valid, config))
    after = state.network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    norms = {
        f"{name}.{key}"
        for name, module in state.network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for key in ("weight", "running_mean")
    }
    trained = {
        key for key in norms if key.startswith(("backbone.features.17", "backbone.features.18"))
    }
    assert norms & changed == (set() if freeze_norms else trained)
    assert "backbone.features.18.0.weight" in changed

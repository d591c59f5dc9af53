"""The moving average of the weights, and the choice between both."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.packed_folders import write_digits
from trainables import digits
from trainables.average import MovingAverage
from trainables.config import DigitsConfig
from trainables.data import TaskData
from trainables.loop import evaluate, fit, is_better, train_epoch, validate
from trainables.state import TrainState

CONFIG = DigitsConfig(
    device="cpu", width=8, num_epochs=3, batch_size=100, lr=0.3, schedule="constant"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return digits.load_data(write_digits(tmp_path_factory.mktemp("digits"), 300), CONFIG)


def network() -> nn.Sequential:
    """With running statistics."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def shake(model: nn.Module) -> None:
    """New weights and running statistics, as after a step."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor))


def test_average_follows_its_formula_for_weights_and_running_statistics() -> None:
    trained = network()
    average = MovingAverage(trained)
    expected = {key: tensor.clone().double() for key, tensor in trained.state_dict().items()}
    decays = []
    for n in range(1, 41):
        shake(trained)
        average.update(steps_per_epoch=4)
        decay = min(3 / 4, n / (n + 9))
        decays.append(decay)
        for key, tensor in trained.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * tensor.double()
    assert average.steps == 40
    assert decays[0] == 0.1
    assert decays[26:] == [0.75] * 14  # a horizon of four steps from the 27th on
    for key, tensor in average.model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[key], rtol=1e-5, atol=1e-6)


def test_one_step_an_epoch_is_the_weights_themselves() -> None:
    trained = network()
    average = MovingAverage(trained)
    shake(trained)
    average.update(steps_per_epoch=1)
    assert torch.equal(average.model.state_dict()["0.weight"], trained.state_dict()["0.weight"])


def test_frozen_parts_are_shared_and_tied_ones_averaged_once() -> None:
    trained = network()
    trained[0].requires_grad_(False)
    trained[1].requires_grad_(False)
    trained.append(nn.Linear(4, 2))
    trained[3].weight = trained[2].weight
    average = MovingAverage(trained)
    assert isinstance(average.model, nn.Sequential)
    assert average.model[0].weight is trained[0].weight
    assert average.model[1].running_mean is trained[1].running_mean
    assert average.model[3].weight is average.model[2].weight
    before = trained.state_dict()["2.weight"].clone()
    shake(trained)
    average.update(steps_per_epoch=100)
    expected = 0.1 * before + 0.9 * trained.state_dict()["2.weight"]
    torch.testing.assert_close(average.model[3].weight, expected)


def test_weights_train_and_validate_as_if_there_were_no_average(
    data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list(fit(digits.start(CONFIG, data), data.train, data.valid, CONFIG))
    monkeypatch.setattr(TrainState, "update_average", lambda self, steps_per_epoch: None)
    plain = digits.start(CONFIG, data)
    for epoch, look in enumerate(looks):
        plain.epoch = epoch
        assert train_epoch(plain, data.train, CONFIG) == look["train_loss"]
        found = evaluate(plain.network, data.valid, CONFIG)
        assert found["valid_loss"] == look["weights_valid_loss"]
        assert found["valid_acc"] == look["weights_valid_acc"]
    assert plain.average is None


@pytest.mark.parametrize("metric", ["valid_acc", "valid_loss"])
def test_model_is_the_better_of_both(data: TaskData, metric: str) -> None:
    state = digits.start(CONFIG, data)
    seen = set()
    for look in fit(state, data.train, data.valid, CONFIG, metric):
        assert state.average is not None
        chosen = state.average.model if look["averaged"] else state.network
        assert state.model is chosen
        found = evaluate(chosen, data.valid, CONFIG)
        assert found == {name: look[name] for name in ("valid_loss", "valid_acc")}
        best = max if metric == "valid_acc" else min
        assert look[metric] == best(look[f"weights_{metric}"], look[f"average_{metric}"])
        seen.add(look["averaged"])
    assert seen <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("metric", "average", "weights", "expected"),
    [
        ("valid_acc", (0.5, 0.8), (0.4, 0.7), True),
        ("valid_acc", (0.3, 0.6), (0.4, 0.7), False),
        ("valid_loss", (0.3, 0.6), (0.4, 0.7), True),
        ("valid_acc", (0.5, 0.7), (0.4, 0.7), False),
        ("valid_acc", (0.4, 0.7), (0.4, 0.7), True),
        ("valid_acc", (math.inf, 0.9), (0.4, 0.7), False),
        ("valid_loss", (0.3, 0.6), (math.nan, 0.1), False),
    ],
)
def test_choice(
    metric: str, average: tuple[float, float], weights: tuple[float, float], expected: bool
) -> None:
    looks = [{"valid_loss": loss, "valid_acc": acc} for loss, acc in (average, weights)]
    assert is_better(looks[0], looks[1], metric) is expected


def test_average_that_is_not_finite_is_not_reported(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    train_epoch(state, data.train, CONFIG)
    assert state.average is not None
    next(state.average.model.parameters()).data.fill_(math.nan)
    found = validate(state, data.valid, CONFIG, "valid_acc")
    assert found["averaged"] == 0
    assert found["valid_loss"] == found["weights_valid_loss"]
    assert not any(name.startswith("average_") for name in found)


@pytest.mark.parametrize("averaged", [False, True])
def test_choice_is_kept_by_a_checkpoint(data: TaskData, tmp_path: Path, averaged: bool) -> None:
    state = digits.start(CONFIG, data)
    next(fit(state, data.train, data.valid, CONFIG))
    state.averaged = averaged
    state.save(tmp_path / "state.pt")
    loaded = digits.start(CONFIG, data)
    loaded.load(tmp_path / "state.pt")
    assert loaded.average is not None
    assert state.average is not None
    assert loaded.average.steps == state.average.steps == 3
    assert loaded.model is (loaded.average.model if averaged else loaded.network)
    assert same(loaded.model, state.model)
    assert not same(loaded.network, loaded.average.model)


def test_training_without_validation_keeps_the_given_choice(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    assert state.model is state.network
    state.averaged = True
    list(fit(state, data.train_valid, None, CONFIG))
    assert state.average is not None
    assert state.model is state.average.model


def same(one: nn.Module, other: nn.Module) -> bool:
    """All tensors are equal."""
    theirs: dict[str, Any] = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in one.state_dict().items())

"""The loop on real handwritten digits: repeatable, resumable, honest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.packed_folders import write_digits
from trainables import digits
from trainables.config import DigitsConfig
from trainables.data import TaskData
from trainables.loop import TrainState, describe, evaluate, fit, predict, set_learning_rate
from trainables.state import make_optimizer

CONFIG = dataclasses.replace(
    digits.CONFIG, device="cpu", precision="float32", width=8, num_epochs=4, batch_size=64
)
EVERYTHING: dict[str, Any] = {
    "schedule": "cosine",
    "warmup": 0.1,
    "nesterov": True,
    "label_smoothing": 0.1,
    "exclude_norm_decay": True,
}

LOOKS = (
    *("valid_loss", "valid_acc", "averaged"),
    *("weights_valid_loss", "weights_valid_acc", "average_valid_loss", "average_valid_acc"),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return digits.load_data(write_digits(tmp_path_factory.mktemp("digits"), 300), CONFIG)


def changed(**knobs: Any) -> DigitsConfig:
    return dataclasses.replace(CONFIG, **knobs)


def train(config: DigitsConfig, data: TaskData) -> tuple[list[dict[str, float]], TrainState]:
    """Metrics without the time, and the state."""
    state = digits.start(config, data)
    history = list(fit(state, data.train, data.valid, config))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history], state


def weights(model: nn.Module) -> dict[str, Any]:
    return {key: tensor.numpy().tobytes() for key, tensor in model.state_dict().items()}


def test_metrics_of_each_epoch(data: TaskData) -> None:
    rows = list(fit(digits.start(CONFIG, data), data.train, data.valid, CONFIG))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    keys = {"epoch", "train_loss", *LOOKS, "lr", "seconds"}
    assert all(row.keys() == keys for row in rows)
    assert all(0 <= row["valid_acc"] <= 1 and row["seconds"] > 0 for row in rows)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_golden_losses(data: TaskData) -> None:
    rows, _ = train(CONFIG, data)
    losses = [row["train_loss"] for row in rows]
    assert losses == pytest.approx([2.380, 2.312, 2.261, 2.222], abs=0.005)


def test_same_seed_same_bits_whatever_ran_before(data: TaskData) -> None:
    first, state = train(changed(**EVERYTHING), data)
    np.random.seed(1)
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    torch.rand(3)
    try:
        second, again = train(changed(**EVERYTHING), data)
    finally:
        torch.set_default_dtype(torch.float32)
    assert second == first
    assert weights(again.model) == weights(state.model)
    other, _ = train(changed(**EVERYTHING, seed=1), data)
    assert other != first


def test_training_leaves_the_global_random_state_alone(data: TaskData) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    train(changed(num_epochs=1), data)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("knobs", [{}, EVERYTHING, {"precision": "bfloat16"}])
@pytest.mark.parametrize("pause", [1, 2, 3])
def test_resumed_training_repeats_to_the_bit(
    data: TaskData, tmp_path: Path, knobs: dict[str, Any], pause: int
) -> None:
    config = changed(**knobs)
    whole, finished = train(config, data)
    state = digits.start(config, data)
    part = []
    for row in fit(state, data.train, data.valid, config):
        part.append(row)
        if row["epoch"] == pause:
            state.save(tmp_path / "state.pt")
            break
    resumed = digits.start(config, data)
    resumed.load(tmp_path / "state.pt")
    assert resumed.epoch == pause
    part += list(fit(resumed, data.train, data.valid, config))
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in part] == whole
    assert weights(resumed.model) == weights(finished.model)


def test_saved_model_gives_the_same_probabilities(data: TaskData, tmp_path: Path) -> None:
    config = changed(**EVERYTHING)
    _, state = train(config, data)
    state.save(tmp_path / "state.pt")
    other = digits.start(dataclasses.replace(config, seed=7), data)
    other.load(tmp_path / "state.pt")
    ours, theirs = (predict(s.model, data.test, config) for s in (state, other))
    assert torch.equal(ours, theirs)
    assert list(tmp_path.iterdir()) == [tmp_path / "state.pt"]


@pytest.mark.parametrize("averaged", [0, 20])
def test_a_checkpoint_of_the_version_before_goes_on(
    data: TaskData, tmp_path: Path, averaged: int
) -> None:
    _, state = train(changed(num_epochs=2), data)
    path = tmp_path / "state.pt"
    state.save(path)
    record = torch.load(path, weights_only=True)
    del record["average_steps"]
    mean = {name: torch.zeros_like(tensor) for name, tensor in record["network"].items()}
    record |= {"version": 1, "averaged": averaged, "average": mean if averaged else None}
    torch.save(record, path)
    resumed = digits.start(changed(num_epochs=3), data)
    resumed.load(path)
    assert resumed.epoch == 2
    assert weights(resumed.network) == weights(state.network)
    assert resumed.averaged == bool(averaged)
    assert len(list(fit(resumed, data.train, data.valid, changed(num_epochs=3)))) == 1


@pytest.mark.parametrize("damage", ["truncated", "text", "other_model"])
def test_damaged_checkpoint_is_one_clear_line(data: TaskData, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.pt"
    digits.start(changed(width=16) if damage == "other_model" else CONFIG, data).save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if damage == "text":
        path.write_text("nothing")
    with pytest.raises(ValueError, match=r"^checkpoint [^\n]*state.pt cannot be used: [^\n]+$"):
        digits.start(CONFIG, data).load(path)


def test_train_loss_is_the_mean_over_images_of_ragged_batches(data: TaskData) -> None:
    config = changed(lr=1e-9, num_epochs=1, batch_size=100, momentum=0.0)  # learns nothing
    assert len(data.train) % 100 != 0
    rows, state = train(config, data)
    state.network.train()
    with torch.no_grad():
        batches = list(data.train.train_batches(100, 1, config.seed))
        losses = [
            functional.cross_entropy(state.network(images), labels, reduction="sum").item()
            for images, labels in batches
        ]
    assert rows[0]["train_loss"] == pytest.approx(sum(losses) / len(data.train), rel=1e-4)


def test_valid_loss_is_plain_cross_entropy_in_any_batch_size(data: TaskData) -> None:
    config = changed(label_smoothing=0.3, num_epochs=2)
    rows, state = train(config, data)
    images, labels = next(iter(data.valid.eval_batches(10_000)))
    with torch.no_grad():
        logits = state.model.eval()(images)
    for size in (1, 7, 10_000):
        found = evaluate(state.model, data.valid, changed(eval_batch_size=size))
        assert found["valid_loss"] == pytest.approx(
            functional.cross_entropy(logits, labels).item(), rel=1e-5
        )
        assert found["valid_acc"] == pytest.approx(
            (logits.argmax(1) == labels).float().mean().item()
        )
    assert rows[-1]["valid_loss"] == pytest.approx(found["valid_loss"], rel=1e-5)


def test_evaluation_changes_nothing(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    state.model.train()
    before = weights(state.model)
    evaluate(state.model, data.valid, CONFIG)
    predict(state.model, data.test, CONFIG)
    assert weights(state.model) == before


def test_predictions_are_probabilities(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    probabilities = predict(state.model, data.test, CONFIG)
    assert probabilities.shape == (40, 10)
    assert probabilities.dtype == torch.float32
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(1), torch.ones(40))
    bfloat16 = predict(state.model, data.test, changed(precision="bfloat16"))
    assert bfloat16.dtype == torch.float32


def test_flip_average_is_the_mean_of_both_sides(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    both = predict(state.model, data.test, changed(flip_average=True))
    images, _ = next(iter(data.test.eval_batches(100)))
    with torch.no_grad():
        model = state.model.eval()
        expected = (model(images).softmax(1) + model(images.flip(3)).softmax(1)) / 2
    torch.testing.assert_close(both, expected)
    plain = evaluate(state.model, data.valid, CONFIG)
    assert evaluate(state.model, data.valid, changed(flip_average=True)) == plain


def test_without_validation_its_keys_are_absent(data: TaskData) -> None:
    rows = list(fit(digits.start(CONFIG, data), data.train_valid, None, changed(num_epochs=2)))
    assert [set(row) for row in rows] == [{"epoch", "train_loss", "lr", "seconds"}] * 2


def test_training_that_diverges_ends_at_once(data: TaskData) -> None:
    rows, _ = train(changed(lr=1e30), data)
    assert len(rows) == 1
    assert not math.isfinite(rows[0]["train_loss"])
    assert math.isnan(rows[0]["valid_loss"])


def test_validation_that_is_not_finite_ends_the_training(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    norm = state.network[1]  # type: ignore[index]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    norm.running_var.fill_(math.nan)  # used in validation only
    rows = list(fit(state, data.train, data.valid, CONFIG))
    assert len(rows) == 1
    assert math.isfinite(rows[0]["train_loss"])
    assert not math.isfinite(rows[0]["valid_loss"])


def test_weight_decay_spares_norms_and_biases(data: TaskData) -> None:
    state = digits.start(changed(exclude_norm_decay=True), data)
    for group in state.optimizer.param_groups:
        one_dimensional = {p.ndim <= 1 for p in group["params"]}
        assert one_dimensional == {group["weight_decay"] == 0}
    both = sum(len(group["params"]) for group in state.optimizer.param_groups)
    assert both == len(list(state.network.parameters()))
    assert len(digits.start(CONFIG, data).optimizer.param_groups) == 1


def test_nesterov_without_momentum_is_plain(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    config = changed(nesterov=True, momentum=0.0)
    assert not make_optimizer(state.network, config, state.machine).defaults["nesterov"]
    config = changed(nesterov=True)
    assert make_optimizer(state.network, config, state.machine).defaults["nesterov"]


def test_biases_learn_faster_and_decay_as_before(data: TaskData) -> None:
    config = changed(bias_lr=8.0, weight_decay=1e-3)
    state = digits.start(config, data)
    set_learning_rate(state, 0.1)
    weights, biases = state.optimizer.param_groups
    assert all(p.ndim > 1 for p in weights["params"])
    assert all(p.ndim == 1 for p in biases["params"])
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 1e-3)
    assert biases["lr"] == pytest.approx(0.8)
    assert biases["lr"] * biases["weight_decay"] == pytest.approx(0.1 * 1e-3)
    spared = digits.start(changed(bias_lr=8.0, exclude_norm_decay=True), data)
    assert spared.optimizer.param_groups[1]["weight_decay"] == 0


def test_float16_scales_its_loss(data: TaskData, tmp_path: Path) -> None:
    config = changed(precision="float16", num_epochs=2)
    _, state = train(config, data)
    assert state.scaler.is_enabled()
    state.save(tmp_path / "state.pt")
    resumed = digits.start(config, data)
    resumed.load(tmp_path / "state.pt")
    assert resumed.scaler.state_dict() == state.scaler.state_dict()
    assert not digits.start(CONFIG, data).scaler.is_enabled()


def test_description_names_device_precision_and_threads(data: TaskData) -> None:
    state = digits.start(CONFIG, data)
    assert describe(state) == {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "num_parameters": sum(p.numel() for p in state.network.parameters()),
    }

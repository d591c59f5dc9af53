"""What is kept of each image: of the epoch that the trial counts by, and through a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.packed_folders import write_digits
from trainables import digits
from trainables.config import TrainConfig
from trainables.loop import fit, predict
from trainables.outcomes import OUTCOMES_FILE, CountingEpoch, Outcomes
from trainables.schedule import ends_low

CONSTANT, COSINE = TrainConfig(schedule="constant"), TrainConfig(schedule="cosine")


def outcomes(number: int) -> Outcomes:
    return Outcomes(torch.tensor([number / 10, 0.5]), torch.tensor([True, False]))


def counted(config: TrainConfig, metric: str, values: list[float]) -> int:
    """The epoch that counts after these."""
    counting = CountingEpoch(config, metric)
    for epoch, value in enumerate(values, start=1):
        counting.offer({"epoch": epoch, metric: value}, outcomes(epoch))
    assert counting.outcomes is not None
    assert counting.outcomes.losses[0].item() == pytest.approx(counting.epoch / 10)
    return counting.epoch


def test_the_best_epoch_counts_or_the_last_of_a_schedule_that_ends_low() -> None:
    assert counted(CONSTANT, "valid_loss", [0.5, 0.3, 0.4]) == 2
    assert counted(CONSTANT, "valid_acc", [0.5, 0.3, 0.5, 0.4]) == 3
    assert counted(COSINE, "valid_loss", [0.5, 0.3, 0.4]) == 3


def test_which_schedules_end_low() -> None:
    assert ends_low({"schedule": "one_cycle"})
    assert ends_low({"schedule": "step", "lr_period": 4, "num_epochs": 9})
    assert not ends_low({"schedule": "step", "lr_period": 9, "num_epochs": 9})
    assert not ends_low({"schedule": "constant", "warmup": 0.1})
    assert not ends_low({})


def test_a_checkpoint_keeps_them(tmp_path: Path) -> None:
    before = CountingEpoch(CONSTANT, "valid_loss")
    before.offer({"epoch": 4, "valid_loss": 0.2}, outcomes(4))
    before.save(tmp_path)
    after = CountingEpoch(CONSTANT, "valid_loss")
    after.load(tmp_path)
    after.offer({"epoch": 5, "valid_loss": 0.3}, outcomes(5))
    assert after.epoch == 4
    assert after.outcomes is not None
    assert torch.equal(after.outcomes.losses, outcomes(4).losses)
    (tmp_path / OUTCOMES_FILE).write_bytes(b"no archive")
    anew = CountingEpoch(CONSTANT, "valid_loss")
    anew.load(tmp_path)
    assert anew.outcomes is None


def test_they_are_those_of_the_model_that_validation_chose(tmp_path: Path) -> None:
    config = dataclasses.replace(digits.CONFIG, num_epochs=2, width=8, device="cpu")
    data = digits.load_data(write_digits(tmp_path, 200), config)
    state = digits.start(config, data)
    for metrics in fit(state, data.train, data.valid, config):
        assert state.outcomes is not None
        assert state.outcomes.losses.mean().item() == pytest.approx(metrics["valid_loss"], rel=1e-5)
        assert state.outcomes.correct.float().mean().item() == pytest.approx(metrics["valid_acc"])
        labels = torch.tensor(data.valid_labels)
        of_truth = predict(state.model, data.valid, config)[torch.arange(len(labels)), labels]
        assert torch.allclose(-of_truth.log(), state.outcomes.losses, atol=1e-5)

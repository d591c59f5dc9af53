"""Learning rates against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from trainables.config import TrainConfig
from trainables.schedule import learning_rate


def optimizer(lr: float) -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def ours(config: TrainConfig, steps_per_epoch: int) -> list[float]:
    steps = config.num_epochs * steps_per_epoch
    return [learning_rate(config, step / steps_per_epoch) for step in range(steps)]


def test_constant() -> None:
    assert ours(TrainConfig(lr=0.1, num_epochs=3), 2) == [0.1] * 6


def test_step_equals_torch() -> None:
    config = TrainConfig(lr=0.03, schedule="step", lr_period=3, lr_decay=0.2, num_epochs=10)
    assert ours(config, 1) == pytest.approx(rates(StepLR(optimizer(0.03), 3, 0.2), 10))
    assert learning_rate(config, 2.99) == 0.03  # changes between epochs, not within one


def test_cosine_equals_torch() -> None:
    config = TrainConfig(lr=0.1, schedule="cosine", num_epochs=5)
    assert ours(config, 4) == pytest.approx(rates(CosineAnnealingLR(optimizer(0.1), 20), 20))


def test_one_cycle_equals_torch() -> None:
    config = TrainConfig(lr=0.5, schedule="one_cycle", num_epochs=5)
    theirs = OneCycleLR(optimizer(1.0), max_lr=0.5, total_steps=101, cycle_momentum=False)
    # torch rises over 0.3 * total_steps - 1 steps, ours over exactly 30 % of the training
    assert ours(config, 20) == pytest.approx(rates(theirs, 100), abs=0.02)
    assert learning_rate(config, 0) == pytest.approx(0.5 / 25)
    assert learning_rate(config, 1.5) == pytest.approx(0.5)
    assert learning_rate(config, 5) == pytest.approx(0.5 / 25 / 1e4)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warmup_rises_linearly_to_the_schedule(schedule: str) -> None:
    plain = TrainConfig(lr=0.1, schedule=schedule, num_epochs=10)  # type: ignore[arg-type]
    warm = TrainConfig(lr=0.1, schedule=schedule, num_epochs=10, warmup=0.2)  # type: ignore[arg-type]
    assert learning_rate(warm, 0) == 0
    assert learning_rate(warm, 1) == pytest.approx(learning_rate(plain, 1) / 2)
    for done in (2, 5.5, 9):
        assert learning_rate(warm, done) == learning_rate(plain, done)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one_cycle"])
def test_rate_is_finite_and_never_above_the_peak(schedule: str) -> None:
    config = TrainConfig(lr=0.4, schedule=schedule, num_epochs=7, warmup=0.3)  # type: ignore[arg-type]
    for lr in ours(config, 11):
        assert math.isfinite(lr)
        assert 0 <= lr <= 0.4 + 1e-12

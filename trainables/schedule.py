"""The learning rate as a pure function of how far training is: there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainables.config import TrainConfig

# Smith & Topin 2017 (1708.07120) with the defaults of torch.optim.lr_scheduler.OneCycleLR.
ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1 / 25 / 1e4


def learning_rate(config: TrainConfig, done: float) -> float:
    """The learning rate after `done` epochs, fractions included.

    constant:  lr
    step:      lr * lr_decay ** floor(done / lr_period)
    cosine:    lr * (1 + cos(pi * done / num_epochs)) / 2
    one_cycle: lr / 25 -> lr in the first 30 % of num_epochs, then -> lr / 250,000, along cosines

    In the first `warmup * num_epochs` epochs the others rise linearly: done / (warmup * num_epochs)
    times the above.
    """
    share = min(done / config.num_epochs, 1.0)
    if config.schedule == "one_cycle":
        return config.lr * one_cycle(share)
    rise = config.warmup * config.num_epochs
    factor = 1.0 if done >= rise else done / rise
    if config.schedule == "step":
        factor *= config.lr_decay ** math.floor(done / config.lr_period)
    elif config.schedule == "cosine":
        factor *= (1 + math.cos(math.pi * share)) / 2
    return config.lr * factor


def ends_low(config: Mapping[str, Any]) -> bool:
    """Whether the learning rate falls in the course of the training, by the knobs' values.

    The last epoch of such a training is meant to be its best; which of the last few looks best on
    `valid` is noise.
    """
    schedule = config.get("schedule")
    if schedule == "step":
        period, epochs = config.get("lr_period"), config.get("num_epochs")
        return isinstance(period, int) and isinstance(epochs, int) and period < epochs
    return schedule in ("cosine", "one_cycle")


def one_cycle(share: float) -> float:
    """The factor on the peak after this share of the training."""
    if share < ONE_CYCLE_RISE:
        return along_cosine(ONE_CYCLE_START, 1.0, share / ONE_CYCLE_RISE)
    return along_cosine(1.0, ONE_CYCLE_END, (share - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))


def along_cosine(start: float, end: float, share: float) -> float:
    """From start to end on half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

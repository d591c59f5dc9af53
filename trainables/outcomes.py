"""What a model makes of each image of `valid`: two trials are compared image by image with it."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrainConfig
from trainables.schedule import ends_low

OUTCOMES_FILE = "outcomes.npz"


@dataclass(frozen=True)
class Outcomes:
    """Of each image, in the order of its source."""

    losses: Tensor
    """float32 (N,): cross-entropy."""
    correct: Tensor
    """bool (N,): whether the likeliest class is the true one."""


class CountingEpoch:
    """The outcomes of the epoch that a trial counts by, as `TrialRecord.best_epoch` has it."""

    def __init__(self, config: TrainConfig, metric: str) -> None:
        self.last = ends_low(vars(config))
        self.metric = metric
        self.epoch = 0
        self.value = 0.0
        self.outcomes: Outcomes | None = None

    def offer(self, metrics: Mapping[str, float], outcomes: Outcomes | None) -> None:
        """The epoch that has just ended: it counts from here on if it is no worse."""
        value = metrics[self.metric] * (-1 if self.metric.endswith("_loss") else 1)
        if self.outcomes is None or self.last or value >= self.value:
            self.epoch, self.value, self.outcomes = int(metrics["epoch"]), value, outcomes

    def save(self, folder: Path) -> None:
        """Write them beside a checkpoint."""
        if self.outcomes is not None:
            np.savez_compressed(
                folder / OUTCOMES_FILE,
                epoch=self.epoch,
                value=self.value,
                losses=self.outcomes.losses.cpu().numpy(),
                correct=self.outcomes.correct.cpu().numpy(),
            )

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote; where there is nothing of it, nothing is known so far."""
        path = folder / OUTCOMES_FILE
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            with np.load(path, allow_pickle=False) as found:
                losses, correct = (torch.from_numpy(found[name]) for name in ("losses", "correct"))
                self.epoch, self.value = int(found["epoch"]), float(found["value"])
            self.outcomes = Outcomes(losses, correct)

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
TENSORS = ("losses", "correct", "logits", "labels")


@dataclass(frozen=True)
class Outcomes:
    """Of each image, in the order of its source."""

    losses: Tensor
    """float32 (N,): cross-entropy."""
    correct: Tensor
    """bool (N,): whether the likeliest class is the true one."""
    logits: Tensor | None = None
    """float32 (N, C), of a trial on a fold: what was not trained on is there to calibrate by."""
    labels: Tensor | None = None
    """int64 (N,), with the logits."""


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
            tensors = {k: v.cpu().numpy() for k, v in vars(self.outcomes).items() if v is not None}
            if "logits" in tensors:
                tensors["logits"] = tensors["logits"].astype(np.float16)  # they fit a temperature
            path = folder / OUTCOMES_FILE
            np.savez_compressed(path, epoch=self.epoch, value=self.value, **tensors)

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote; where there is nothing of it, nothing is known so far."""
        path = folder / OUTCOMES_FILE
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            with np.load(path, allow_pickle=False) as found:
                names = [name for name in TENSORS if name in found]
                tensors = {name: torch.from_numpy(found[name]) for name in names}
                self.epoch, self.value = int(found["epoch"]), float(found["value"])
            self.outcomes = Outcomes(**tensors)

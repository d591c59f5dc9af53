"""What a model makes of each image of `valid`: two trials are compared image by image with it."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import TrainConfig
from trainables.schedule import ends_low

OUTCOMES_FILE = "outcomes.npz"
TENSORS = ("losses", "correct", "logits", "labels")
LOOK = "look_"  # begins the name of an array of logits by another look


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
    looks: dict[str, Tensor] = field(default_factory=dict)
    """The logits by other looks at the images: look -> float32 (N, C)."""


class CountingEpoch:
    """The outcomes of the epoch that a trial counts by, as `TrialRecord.best_epoch` has it."""

    def __init__(self, config: TrainConfig, metric: str) -> None:
        self.last = ends_low(vars(config))
        self.metric = metric
        self.epoch = 0
        self.value = 0.0
        self.outcomes: Outcomes | None = None

    def offer(self, metrics: Mapping[str, float], outcomes: Outcomes | None) -> bool:
        """The epoch that has just ended: whether it counts from here on, being no worse."""
        value = metrics[self.metric] * (-1 if self.metric.endswith("_loss") else 1)
        if self.outcomes is not None and not self.last and not value >= self.value:
            return False
        self.epoch, self.value, self.outcomes = int(metrics["epoch"]), value, outcomes
        return True

    def save(self, folder: Path) -> None:
        """Write them beside a checkpoint."""
        if self.outcomes is not None:
            found = {name: getattr(self.outcomes, name) for name in TENSORS}
            found |= {f"{LOOK}{name}": logits for name, logits in self.outcomes.looks.items()}
            arrays: dict[str, Any]
            arrays = {name: packed(name, each) for name, each in found.items() if each is not None}
            np.savez_compressed(
                folder / OUTCOMES_FILE, epoch=self.epoch, value=self.value, **arrays
            )

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote; where there is nothing of it, nothing is known so far."""
        path = folder / OUTCOMES_FILE
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            with np.load(path, allow_pickle=False) as found:
                names = [name for name in TENSORS if name in found]
                tensors = {name: torch.from_numpy(found[name]) for name in names}
                looks = [name for name in found if name.startswith(LOOK)]
                by_look = {n.removeprefix(LOOK): torch.from_numpy(found[n]) for n in looks}
                self.epoch, self.value = int(found["epoch"]), float(found["value"])
            self.outcomes = Outcomes(**tensors, looks=by_look)


def packed(name: str, tensor: Tensor) -> NDArray[Any]:
    """As it is saved: logits serve to average and calibrate by, half of their digits will do."""
    array: NDArray[Any] = tensor.cpu().numpy()
    return array.astype(np.float16) if name == "logits" or name.startswith(LOOK) else array

"""The shared learning curves as a table that a search can be replayed on.

Each row of a table is a configuration that was trained to the end: what its weights and their
moving average were worth after each epoch, and what the finished model is worth on images that no
choice has seen.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import trainables.cifar10
import trainables.dog_breed
from search.samplers.trial import Mode
from search.study.space import Config, Key, Space, When, key, project
from trainables.config import TrainConfig
from trainables.loop import Metrics, is_better

Array = NDArray[np.float64]
WEIGHTS, AVERAGE = 0, 1


@dataclasses.dataclass(frozen=True)
class Source:
    """Which file, and the space that its rows were drawn from."""

    name: str
    metric: str
    mode: Mode
    config: TrainConfig
    space: Space


STEPS: Space = {
    "lr_period": When("schedule", ("step",), IntDistribution(2, 15)),
    "lr_decay": When("schedule", ("step",), FloatDistribution(0.05, 0.9, log=True)),
}
SOURCES = {
    "cifar10_narrow": Source(
        "cifar10_narrow",
        "valid_acc",
        "max",
        trainables.cifar10.CONFIG,
        {
            "lr": FloatDistribution(0.01, 0.5, log=True),
            "momentum": FloatDistribution(0.8, 0.98),
            "nesterov": CategoricalDistribution([False, True]),
            "weight_decay": FloatDistribution(1e-5, 5e-3, log=True),
            "exclude_norm_decay": CategoricalDistribution([False, True]),
            "batch_size": CategoricalDistribution([128, 256, 512]),
            "label_smoothing": FloatDistribution(0.0, 0.2),
            "schedule": CategoricalDistribution(["constant", "step", "cosine", "one_cycle"]),
            **STEPS,
        },
    ),
    "dogs_head": Source(
        "dogs_head",
        "valid_loss",
        "min",
        trainables.dog_breed.CONFIG,
        {
            "lr": FloatDistribution(1e-3, 0.3, log=True),
            "momentum": FloatDistribution(0.8, 0.98),
            "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
            "batch_size": CategoricalDistribution([64, 128, 256]),
            "hidden": CategoricalDistribution([0, 256, 512]),
            "dropout": FloatDistribution(0.0, 0.8),
            "label_smoothing": FloatDistribution(0.0, 0.2),
            "schedule": CategoricalDistribution(["step", "cosine", "one_cycle"]),
            **STEPS,
        },
    ),
}


class Table:
    """The rows of one file. Row 0 is the baseline, row 1 the preset."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.space, self.metric, self.mode = source.space, source.metric, source.mode
        self.sign = 1.0 if source.mode == "max" else -1.0
        lines = (folder / f"{source.name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        base = dataclasses.asdict(source.config)
        self.configs = [project(self.space, {**base, **row["knobs"]}) for row in rows]
        self.numbers: dict[Key, int] = {key(c): number for number, c in enumerate(self.configs)}
        self.curves = np.array([row["curve"] for row in rows], dtype=np.float64)
        """(rows, epochs, 5): accuracy and loss of the weights, of the average, training loss."""
        self.truths = np.array(
            [[truth(row["truth"][name]) for name in ("weights", "average")] for row in rows]
        )

    def __len__(self) -> int:
        return len(self.configs)

    @property
    def num_epochs(self) -> int:
        """Of every row."""
        return int(self.curves.shape[1])

    def row(self, config: Config) -> int:
        """The number of the row with this configuration."""
        return self.numbers[key(project(self.space, config))]

    def look(self, row: int, epoch: int, model: int) -> Metrics:
        """valid_acc and valid_loss of the weights or of their average after an epoch."""
        accuracy, loss = self.curves[row, epoch - 1, 2 * model : 2 * model + 2]
        return {"valid_acc": float(accuracy), "valid_loss": float(loss)}

    def better(self, row: int, epoch: int) -> int:
        """Which of both is the model, as the training loop chooses."""
        average, weights = (self.look(row, epoch, model) for model in (AVERAGE, WEIGHTS))
        return AVERAGE if is_better(average, weights, self.metric) else WEIGHTS

    def values(self, epoch: int, model: int) -> Array:
        """(rows,): the metric of the weights or of the average after an epoch."""
        return np.array([self.look(r, epoch, model)[self.metric] for r in range(len(self))])

    def better_values(self, epoch: int) -> Array:
        """(rows,): the metric of the better of both after an epoch."""
        rows = range(len(self))
        return np.array([self.look(r, epoch, self.better(r, epoch))[self.metric] for r in rows])

    @cached_property
    def finished(self) -> Array:
        """(rows,): the true score of each finished model, the better of both on valid."""
        models = [self.better(row, self.num_epochs) for row in range(len(self))]
        return np.asarray(self.truths[np.arange(len(self)), models])

    @cached_property
    def best(self) -> float:
        """The best true score of the table."""
        return float(self.sign * (self.sign * self.finished).max())


def truth(value: Any) -> float:
    """A truth of the file: the accuracy, or log loss and accuracy."""
    return float(value[0] if isinstance(value, list) else value)

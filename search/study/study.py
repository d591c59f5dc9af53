"""A study: everything that defines one search, on one screen a task (`search/<task>.py`)."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Annotated, Any, Literal

from optuna.samplers import BaseSampler
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from data_prep.source import KaggleLayout
from search.errors import UsageError as UsageError
from search.study.choices import (
    AUDIT_SHARE,
    REDUCTION_FACTOR,
    SAMPLER,
    SCHEDULER,
    Scheduler,
    check_sampler_name,
)
from search.study.rung_levels import first_rung, rung_levels
from search.study.space import Space, When, contains
from trainables.config import TrainConfig

SamplerName = Annotated[str, AfterValidator(check_sampler_name)]


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Study:
    """What is searched, on what, how long, and what is expected of it."""

    task: str
    """Name of the task's folders under `data/` and `results/`."""
    layout: KaggleLayout
    """The Kaggle download's file names (`data_prep/<task>.py`)."""
    trainables: ModuleType
    """The module with `trainable`, `load_data`, `start` and so on (`trainables/<task>.py`)."""
    config: TrainConfig
    """Every knob's value where it is not searched; trial 0 runs it unchanged."""
    space: Space
    """Knob -> Optuna distribution, or `When(...)` for a knob that exists only under a condition."""
    submission: Literal["label", "probabilities"]
    """What Kaggle wants: `id,label`, or a probability for each class."""
    metric: Literal["valid_acc", "valid_loss"] = "valid_acc"
    """Kaggle's metric, measured on `valid`."""
    further: dict[str, When] = Field(default_factory=dict)
    """Ranges that join the space where the user's `--set` or `--range` meets their condition."""
    num_samples: int = Field(default=32, ge=1)
    """Number of trials, the baseline included."""
    sampler: SamplerName | BaseSampler = SAMPLER
    """By name (`choices.SAMPLERS`), or an Optuna sampler object."""
    scheduler: Scheduler = SCHEDULER
    """Early stopping: promoting ASHA, stopping ASHA, or none."""
    grace_period: int | None = Field(default=None, ge=1)
    """Epochs before a trial may be stopped; None: by the budget (`first_rung`)."""
    reduction_factor: int = Field(default=REDUCTION_FACTOR, ge=2)
    """One in so many trials goes on from each rung; rungs stand at grace_period x its powers."""
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    """Changes to `config` that are worth a trial each, right after the baseline."""
    finish_presets: bool = True
    """These run to their last epoch whatever their rank, as the baseline does."""
    audit_share: float = Field(default=AUDIT_SHARE, ge=0, le=1)
    """Share of the sampled trials that run to their last epoch whatever their rank: what they reach
    tells how well the rungs foretell the end, and what early stopping cost."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler."""
    cpus_per_trial: float = Field(default=1, gt=0)
    """CPU cores a trial; also its torch threads."""
    gpus_per_trial: float | None = Field(default=None, ge=0)
    """GPUs a trial, fractions allowed; None: one where the cluster has any, else none."""
    reference: str = ""
    """The result to expect, with its source."""
    caveat: str = ""
    """What a reader of a score must know; printed with every score."""
    trains: str = ""
    """What is trained, in a few words."""
    small: Study | None = None
    """The study to run in its place where `layout.fit` finds the images small."""

    @property
    def mode(self) -> Literal["max", "min"]:
        """Direction of the metric."""
        return "max" if self.metric == "valid_acc" else "min"

    @property
    def points(self) -> list[dict[str, Any]]:
        """`points_to_evaluate` as whole configurations, those that lie in the space."""
        base = dataclasses.asdict(self.config)
        fixed = {name for name in base if name not in self.space}
        points = [
            {**base, **{name: value for name, value in point.items() if name not in fixed}}
            for point in self.points_to_evaluate
        ]
        return [point for point in points if contains(self.space, point)]

    @property
    def num_epochs(self) -> int:
        """Full budget of a trial in epochs (`config.num_epochs`)."""
        return self.config.num_epochs

    @property
    def first_rung(self) -> int:
        """The epoch at which trials are first compared."""
        return self.grace_period or first_rung(self.num_epochs)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared: `first_rung` times powers of reduction_factor."""
        if self.scheduler == "none":
            return ()
        return rung_levels(self.num_epochs, self.first_rung, self.reduction_factor)

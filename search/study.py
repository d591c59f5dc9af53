"""A study: everything that defines one search, on one screen a task (`search/<task>.py`)."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from optuna.samplers import BaseSampler
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ray.cloudpickle import register_pickle_by_value

from data_prep.source import KaggleLayout
from search.errors import UsageError as UsageError
from search.ranges import parse_range
from search.rungs import rung_levels
from search.space import Space, contains, without
from trainables.config import TrainConfig, parse_setting

TASKS = ("digits", "cifar10", "dog_breed")


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
    num_samples: int = Field(default=32, ge=1)
    """Number of trials, the baseline included."""
    sampler: Literal["gp", "tpe", "random", "cmaes"] | BaseSampler = "gp"
    """Optuna sampler, by name or as an object."""
    scheduler: Literal["promoting", "asha", "none"] = "promoting"
    """Early stopping: promoting ASHA, stopping ASHA, or none."""
    grace_period: int = Field(default=3, ge=1)
    """Epochs before a trial may be stopped: the first rung."""
    reduction_factor: int = Field(default=3, ge=2)
    """One in so many trials goes on from each rung; rungs stand at grace_period x its powers."""
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    """Changes to `config` that are worth a trial each, right after the baseline."""
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
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared: grace_period times powers of reduction_factor."""
        if self.scheduler == "none":
            return ()
        return rung_levels(self.num_epochs, self.grace_period, self.reduction_factor)


SETTINGS: dict[str, Any] = {
    "metric": Literal["valid_acc", "valid_loss"],
    "sampler": Literal["gp", "tpe", "random", "cmaes"],
    "scheduler": Literal["promoting", "asha", "none"],
    "grace_period": int,
    "reduction_factor": int,
}


def load_study(task: str) -> Study:
    """The study of a built-in task, or the `STUDY` that a Python file defines.

    Raises UsageError for an unknown name, a file that is missing, does not run or defines no STUDY.
    """
    if task in TASKS:
        study = importlib.import_module(f"search.{task}").STUDY
    elif task.endswith(".py"):
        study = getattr(load_file(Path(task)), "STUDY", None)
    else:
        hint = difflib.get_close_matches(task, TASKS, n=1)
        raise UsageError(
            f"unknown task {task!r}: {f'did you mean {hint[0]}? ' if hint else ''}"
            f"use {', '.join(TASKS)}, or the path of a .py file that defines STUDY"
        )
    if not isinstance(study, Study):
        raise UsageError(f"{task} defines no STUDY = Study(...); see search/digits.py for one")
    return study


def load_file(path: Path) -> ModuleType:
    """Run the user's study file as a module whose functions travel to the workers by value."""
    if not path.is_file():
        raise UsageError(f"task file {path} does not exist")
    name = f"resnet_tune_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"task file {path} fails: {type(error).__name__}: {error}") from error
    register_pickle_by_value(module)
    return module


def customise(
    study: Study,
    *,
    sets: Sequence[str] = (),
    ranges: Sequence[str] = (),
    num_samples: int | None = None,
    num_epochs: int | None = None,
    seed: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
) -> Study:
    """The study with the user's `--set`, `--range` and budget in place of its own.

    Raises UsageError for a knob that does not exist or a value of the wrong type or range.
    """
    for setting in sets:
        study = fix(study, setting)
    for spec in ranges:
        study = search_over(study, spec)
    try:
        if num_epochs is not None:
            study = fix(study, f"num_epochs={num_epochs}")
        budget: dict[str, Any] = {
            "num_samples": num_samples,
            "seed": seed,
            "cpus_per_trial": cpus_per_trial,
            "gpus_per_trial": gpus_per_trial,
        }
        given = {key: value for key, value in budget.items() if value is not None}
        return dataclasses.replace(study, **given)
    except ValidationError as error:
        raise UsageError(one_line(error)) from None


def fix(study: Study, setting: str) -> Study:
    """Give one knob or study setting a value and take it out of the search."""
    key, separator, text = setting.partition("=")
    if not separator:
        raise UsageError(f"--set {setting}: write it as KEY=VALUE")
    try:
        if key in SETTINGS:
            value = TypeAdapter(SETTINGS[key]).validate_python(text)
            return dataclasses.replace(study, **{key: value})
        check_knob(study, key, "--set")
        key, value = parse_setting(study.config, setting)
        config = dataclasses.replace(study.config, **{key: value})
    except ValidationError as error:
        raise UsageError(f"--set {setting}: {one_line(error)}") from None
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"--set {setting}: {error}") from None
    return dataclasses.replace(study, config=config, space=without(study.space, key, value))


def search_over(study: Study, spec: str) -> Study:
    """Search one knob over the range the user gave, in place of the study's own."""
    key = spec.partition("=")[0]
    check_knob(study, key, "--range")
    fixed = getattr(study.trainables, "STUDY_SETTINGS", ())
    if key in fixed:
        raise UsageError(
            f"--range {spec}: {key} is a setting of the whole study (all trials share one set of"
            f" cached features); fix it with --set {key}=VALUE and compare two searches"
        )
    try:
        key, distribution = parse_range(spec, type(getattr(study.config, key)))
        for value in ends(distribution):
            dataclasses.replace(study.config, **{key: value})
    except ValidationError as error:
        raise UsageError(f"--range {spec}: {one_line(error)}") from None
    except ValueError as error:
        raise UsageError(f"--range {spec}: {error}") from None
    return dataclasses.replace(study, space={**study.space, key: distribution})


def ends(distribution: Any) -> list[Any]:
    """The values of a range that the config must accept: all choices, or both ends."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def check_knob(study: Study, key: str, option: str) -> None:
    """Raise UsageError that names the nearest knob when the task has no such knob."""
    knobs = [field.name for field in dataclasses.fields(study.config)]
    if key in knobs:
        return
    known = [*knobs, *SETTINGS]
    hint = difflib.get_close_matches(key, known, n=1)
    advice = f"did you mean {hint[0]}?" if hint else f"knobs: {', '.join(known)}"
    raise UsageError(f"{option} {key}: {study.task} has no such knob; {advice}")


def one_line(error: ValidationError) -> str:
    """pydantic's findings as one line."""
    findings = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        + (f" (got {item['input']!r})" if isinstance(item["input"], str | int | float) else "")
        for item in error.errors()
    ]
    return "; ".join(findings)

"""The search space: a dict from a knob's name to an Optuna distribution, or to a `When`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import BaseTrial

Config: TypeAlias = dict[str, Any]
Number: TypeAlias = FloatDistribution | IntDistribution

Key: TypeAlias = tuple[tuple[str, Any], ...]
MAX_GRID = 10_000  # finite spaces up to this many configurations are listed when samplers repeat


@dataclass(frozen=True)
class When:
    """A knob that exists only while `parameter`, an earlier knob, has one of `values`."""

    parameter: str
    values: tuple[Any, ...]
    distribution: BaseDistribution


Entry: TypeAlias = BaseDistribution | When
Space: TypeAlias = dict[str, Entry]


def check_space(space: Space) -> None:
    """Raise ValueError unless every `When` refers to a knob that stands before it."""
    for position, (name, entry) in enumerate(space.items()):
        if isinstance(entry, When) and entry.parameter not in list(space)[:position]:
            raise ValueError(
                f"search space: {name!r} depends on {entry.parameter!r}, which does not stand "
                f"before it; list {entry.parameter!r} first, or fix it"
            )


def distribution(space: Space, name: str) -> BaseDistribution:
    """The range of one knob, whether conditional or not."""
    entry = space[name]
    return entry.distribution if isinstance(entry, When) else entry


def is_active(space: Space, name: str, config: Mapping[str, Any]) -> bool:
    """Whether the knob exists in this configuration."""
    entry = space[name]
    if not isinstance(entry, When):
        return True
    parent = entry.parameter
    if parent in space and not is_active(space, parent, config):
        return False
    return config.get(parent) in entry.values


def active(space: Space, config: Mapping[str, Any]) -> list[str]:
    """The searched knobs that exist in this configuration and have a value there."""
    return [name for name in space if name in config and is_active(space, name, config)]


def project(space: Space, config: Mapping[str, Any]) -> Config:
    """The searched and active knobs of a full configuration, in the order of the space."""
    missing = [name for name in space if is_active(space, name, config) and name not in config]
    if missing:
        raise ValueError(f"configuration lacks {', '.join(missing)}, which the search space has")
    return {name: config[name] for name in space if is_active(space, name, config)}


def outside(space: Space, config: Mapping[str, Any]) -> list[str]:
    """The active knobs whose value is missing or lies outside its range."""
    return [
        name
        for name in space
        if is_active(space, name, config)
        and not (name in config and inside(distribution(space, name), config[name]))
    ]


def contains(space: Space, config: Mapping[str, Any]) -> bool:
    """Whether the configuration could have been sampled from the space; other keys are ignored."""
    return not outside(space, config)


def inside(knob: BaseDistribution, value: Any) -> bool:
    """Whether a value lies in a range (on its steps, if it has steps)."""
    if isinstance(knob, CategoricalDistribution):
        return any(
            value == c and isinstance(value, bool) == isinstance(c, bool) for c in knob.choices
        )
    assert isinstance(knob, Number)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if not knob.low <= value <= knob.high:
        return False
    steps = (value - knob.low) / knob.step if knob.step else 0.0
    return abs(steps - round(steps)) < 1e-8


def on_step(knob: Number, value: float) -> float | int:
    """The nearest value that a stepped knob has, as one writes it: 0.3, not 0.1 + 2 x 0.1."""
    if isinstance(knob, IntDistribution) or not knob.step:
        return value
    step, low = Decimal(repr(knob.step)), Decimal(repr(knob.low))
    return min(float(low + round((value - knob.low) / knob.step) * step), knob.high)


def suggest(trial: BaseTrial, space: Space) -> Config:
    """Ask an Optuna trial for every active knob, parents before their children."""
    config: Config = {}
    for name in space:
        if is_active(space, name, config):
            config[name] = _suggest_one(trial, name, distribution(space, name))
    return config


def _suggest_one(trial: BaseTrial, name: str, knob: BaseDistribution) -> Any:
    if isinstance(knob, CategoricalDistribution):
        return trial.suggest_categorical(name, knob.choices)
    if isinstance(knob, IntDistribution):
        return trial.suggest_int(name, knob.low, knob.high, step=knob.step, log=knob.log)
    assert isinstance(knob, FloatDistribution)
    value = trial.suggest_float(name, knob.low, knob.high, step=knob.step, log=knob.log)
    return on_step(knob, value)


def without(space: Space, name: str, value: Any) -> Space:
    """The space without one knob, now a constant: its children become plain knobs, or vanish."""
    fixed: Space = {}
    for key, entry in space.items():
        if key == name:
            continue
        if isinstance(entry, When) and entry.parameter == name:
            if value in entry.values:
                fixed[key] = entry.distribution
            continue
        fixed[key] = entry
    return _drop_orphans(fixed)


def _drop_orphans(space: Space) -> Space:
    """Without the conditional knobs whose parent has vanished."""
    kept: Space = {}
    for key, entry in space.items():
        if not isinstance(entry, When) or entry.parameter in kept:
            kept[key] = entry
    return kept


def grid(space: Space) -> list[Config] | None:
    """Every configuration of a finite space of at most MAX_GRID points, else None."""
    axes = [_values(distribution(space, name)) for name in space]
    if any(axis is None for axis in axes):
        return None
    sizes = [len(axis) for axis in axes if axis is not None]
    if math.prod(sizes) > MAX_GRID:
        return None
    points = (
        project(space, dict(zip(space, values, strict=True)))
        for values in itertools.product(*[axis for axis in axes if axis is not None])
    )
    return list({key(point): point for point in points}.values())


def _values(knob: BaseDistribution) -> list[Any] | None:
    """Every value of a knob, or None for a continuous one (or one of too many values)."""
    if isinstance(knob, CategoricalDistribution):
        return list(knob.choices)
    assert isinstance(knob, Number)
    if knob.low == knob.high:
        return [knob.low]
    if knob.step is None or (knob.high - knob.low) / knob.step > MAX_GRID:
        return None
    count = math.floor((knob.high - knob.low) / knob.step + 1e-8) + 1
    return [on_step(knob, knob.low + index * knob.step) for index in range(count)]


def key(config: Mapping[str, Any]) -> Key:
    """A hashable name of a configuration; equal numbers have equal names, True is not 1."""
    return tuple((name, (type(v) is bool, v)) for name, v in sorted(config.items()))


def describe_space(space: Space) -> dict[str, Any]:
    """Each searched knob's Optuna distribution and condition."""
    described = {}
    for name, entry in space.items():
        when = (
            {"parameter": entry.parameter, "values": list(entry.values)}
            if isinstance(entry, When)
            else None
        )
        described[name] = {
            "distribution": distribution_to_json(distribution(space, name)),
            "when": when,
        }
    return described

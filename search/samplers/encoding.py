"""Configurations as points: one coordinate in 0..1 a knob, and the features a model sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.study.space import Config, Space, When, distribution, is_active, on_step

Array = NDArray[np.float64]


class Encoding:
    """Points `u` (n, knobs) in 0..1, drawn uniformly they follow the space's prior.

    Features (n, columns): a number's place in its (log) range; a category one column a choice, so
    that two different choices are at distance 1; a knob that does not exist in the middle.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.names = list(space)
        self.knobs = [distribution(space, name) for name in space]

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points from the prior."""
        return rng.random((count, len(self.names)))

    def point(self, config: Mapping[str, Any]) -> Array:
        """The point (knobs,) of a configuration; 0.5 for a knob that does not exist in it."""
        here = [name in config and is_active(self.space, name, config) for name in self.names]
        return np.array(
            [
                _unit(knob, config[name]) if exists else 0.5
                for name, knob, exists in zip(self.names, self.knobs, here, strict=True)
            ]
        )

    def config(self, point: Array) -> Config:
        """The configuration of a point."""
        config: Config = {}
        for name, knob, u in zip(self.names, self.knobs, point, strict=True):
            if is_active(self.space, name, config):
                config[name] = _value(knob, float(u))
        return config

    def features(self, points: Array) -> Array:
        """What a model sees of points; points of one configuration have the same features."""
        exists = self._exists(points)
        columns = []
        for index, knob in enumerate(self.knobs):
            u = points[:, index]
            if isinstance(knob, CategoricalDistribution):
                hot = np.eye(len(knob.choices))[_index(knob, u)] / np.sqrt(2)
                columns += list((hot * exists[:, index, None]).T)
            else:
                columns.append(np.where(exists[:, index], _snap(knob, u), 0.5))
        return np.stack(columns, axis=1)

    def _exists(self, points: Array) -> NDArray[np.bool_]:
        """Which knobs exist in each point's configuration."""
        exists = np.ones(points.shape, dtype=bool)
        for index, name in enumerate(self.names):
            entry = self.space[name]
            if isinstance(entry, When):
                parent = self.names.index(entry.parameter)
                allowed = self._holds(parent, entry.values, points[:, parent])
                exists[:, index] = exists[:, parent] & allowed
        return exists

    def _holds(self, index: int, values: tuple[Any, ...], u: Array) -> NDArray[np.bool_]:
        """Where a parent has one of the values under which its child exists."""
        knob = self.knobs[index]
        return np.array([_value(knob, float(x)) in values for x in u], dtype=bool)


def _index(knob: CategoricalDistribution, u: Array) -> NDArray[np.int64]:
    return np.minimum((u * len(knob.choices)).astype(np.int64), len(knob.choices) - 1)


def _bounds(knob: BaseDistribution) -> tuple[float, float]:
    """The ends of the (log) interval that 0..1 stands for: half a step wider for steps."""
    assert isinstance(knob, FloatDistribution | IntDistribution)
    half = (knob.step or 0) / 2
    low, high = knob.low - half, knob.high + half
    return (float(np.log(low)), float(np.log(high))) if knob.log else (low, high)


def _snap(knob: BaseDistribution, u: Array) -> Array:
    """The points moved to the nearest values that the knob can have."""
    assert isinstance(knob, FloatDistribution | IntDistribution)
    if not knob.step:
        return u
    low, high = _bounds(knob)
    if low == high:
        return np.full_like(u, 0.5)
    raw = low + u * (high - low)
    values = np.exp(raw) if knob.log else raw
    values = np.clip(np.round((values - knob.low) / knob.step), 0, None) * knob.step + knob.low
    values = np.minimum(values, knob.high)
    return ((np.log(values) if knob.log else values) - low) / (high - low)


def _value(knob: BaseDistribution, u: float) -> Any:
    """The value at a coordinate."""
    if isinstance(knob, CategoricalDistribution):
        return knob.choices[_index(knob, np.array([u]))[0]]
    assert isinstance(knob, FloatDistribution | IntDistribution)
    low, high = _bounds(knob)
    raw = low + float(_snap(knob, np.array([u]))[0]) * (high - low)
    value = float(np.exp(raw)) if knob.log else raw
    if isinstance(knob, IntDistribution):
        return min(max(round(value), knob.low), knob.high)
    return on_step(knob, min(max(value, knob.low), knob.high))


def _unit(knob: BaseDistribution, value: Any) -> float:
    """The coordinate of a value, clipped to the range."""
    if isinstance(knob, CategoricalDistribution):
        return (knob.choices.index(value) + 0.5) / len(knob.choices)
    low, high = _bounds(knob)
    if low == high:
        return 0.5
    assert isinstance(knob, FloatDistribution | IntDistribution)
    clipped = min(max(value, knob.low), knob.high)
    raw = float(np.log(clipped)) if knob.log else clipped
    return (raw - low) / (high - low)

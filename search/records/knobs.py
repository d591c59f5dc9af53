"""The searched knobs as search.json describes them, for tables and reports; imports no Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data_prep.files import from_json
from search.records.manifest import KnobEntry
from search.text import compact

EDGE = 0.02  # the outer 2 % of a (log) range count as its edge


@dataclass(frozen=True)
class Knob:
    """One searched knob: either `choices`, or a numeric range from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] | None
    low: float
    high: float
    log: bool
    whole: bool
    """Whether the values are whole numbers."""
    parent: str | None
    parent_values: tuple[Any, ...]
    """The knob exists only while `parent` has one of these values."""

    @property
    def is_numeric(self) -> bool:
        """Whether the values have an order: a range, or choices that are all numbers."""
        return self.choices is None or all(
            isinstance(c, int | float) and not isinstance(c, bool) for c in self.choices
        )

    @property
    def spec(self) -> str:
        """The range as `--range` takes it: `0.001..0.5:log` or `32,64,128`."""
        if self.choices is not None:
            return ",".join(str(choice) for choice in self.choices)
        return f"{compact(self.low)}..{compact(self.high)}{':log' if self.log else ''}"


def searched_knobs(space: Mapping[str, KnobEntry]) -> dict[str, Knob]:
    """The knobs of search.json's `space`, in its order."""
    return {name: read_knob(name, entry) for name, entry in space.items()}


def read_knob(name: str, entry: KnobEntry) -> Knob:
    """One knob from Optuna's JSON and its condition."""
    described = from_json(entry.distribution)
    attributes = described["attributes"]
    choices = attributes.get("choices")
    return Knob(
        name,
        None if choices is None else tuple(choices),
        attributes.get("low", math.nan),
        attributes.get("high", math.nan),
        bool(attributes.get("log", False)),
        described["name"] == "IntDistribution",
        entry.when.parameter if entry.when else None,
        entry.when.values if entry.when else (),
    )


def is_active(knobs: Mapping[str, Knob], name: str, config: Mapping[str, Any]) -> bool:
    """Whether the knob has an effect in this configuration."""
    parent = knobs[name].parent
    if parent is None:
        return name in config
    if parent in knobs and not is_active(knobs, parent, config):
        return False
    return name in config and config.get(parent) in knobs[name].parent_values


def position(knob: Knob, value: Any) -> float:
    """Where a value lies in its range, 0 to 1, on the log scale where the range has one.

    What lies beyond an end counts as the end; a range of a single value has its place in the
    middle, a choice in the middle of its part; nan for what is no choice or no number.
    """
    if knob.choices is not None:
        places = [i for i, choice in enumerate(knob.choices) if choice == value]
        return (places[0] + 0.5) / len(knob.choices) if places else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    if knob.low == knob.high:
        return 0.5
    inside = min(max(value, knob.low), knob.high)
    if knob.log:
        return math.log(inside / knob.low) / math.log(knob.high / knob.low)
    return (inside - knob.low) / (knob.high - knob.low)


def edge(knob: Knob, value: Any) -> Literal["low", "high"] | None:
    """Which edge of its range a value lies at (or beyond); None inside, or without an order.

    A list of choices has edges when it holds three or more numbers; with two, all would be edges.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not knob.is_numeric:
        return None
    if knob.choices is not None:
        if len(knob.choices) < 3:
            return None
        return (
            "low" if value <= min(knob.choices) else "high" if value >= max(knob.choices) else None
        )
    if knob.low == knob.high:
        return None
    if knob.whole:
        return "low" if value <= knob.low else "high" if value >= knob.high else None
    at = position(knob, value)
    return "low" if at <= EDGE else "high" if at >= 1 - EDGE else None


def edge_advice(knobs: Mapping[str, Knob], config: Mapping[str, Any]) -> list[str]:
    """A line for each knob that the best configuration has at the edge of its range."""
    lines = []
    for name, knob in knobs.items():
        side = edge(knob, config.get(name)) if is_active(knobs, name, config) else None
        if side is not None:
            lines.append(advice(knob, config[name], side))
    return lines


def advice(knob: Knob, value: Any, side: Literal["low", "high"]) -> str:
    """What a best value at an edge suggests."""
    word = "lower" if side == "low" else "upper"
    where = f"best {knob.name}={compact(value)} lies at the {word} edge of {knob.spec}"
    if side == "low" and (knob.low == 0 or knob.choices is not None and min(knob.choices) == 0):
        return f"{where}: perhaps it is not needed at all (--set {knob.name}=0)"
    if knob.choices is not None:
        beyond = "smaller" if side == "low" else "larger"
        return f"{where}: better ones may lie beyond; add a {beyond} choice"
    return f"{where}: better ones may lie beyond; try --range {knob.name}={widened(knob, side)}"


def widened(knob: Knob, side: Literal["low", "high"]) -> str:
    """The range, longer on one side: five-fold on a log scale, else by half of its width."""
    low, high = knob.low, knob.high
    if side == "low":
        low = low / 5 if knob.log else low - (high - low) / 2
        low = max(0 if knob.low >= 0 and not knob.log else low, low)
        low = max(1, round(low)) if knob.whole and knob.low > 0 else low
    else:
        high = high * 5 if knob.log else high + (high - low) / 2
    shown = (round(low), round(high)) if knob.whole else (low, high)
    return f"{compact(shown[0])}..{compact(shown[1])}{':log' if knob.log else ''}"

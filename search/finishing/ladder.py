"""What each step from the baseline to the submission is worth, on images it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.records.metric import oriented
from search.records.paired import Difference, paired

Scores = Mapping[int, NDArray[np.float64]]
"""Fold -> score of each image (N,), higher is better."""


@dataclass(frozen=True)
class Step:
    """One of them."""

    name: str
    what: str
    """What it comes to here, in a few words."""
    applied: bool
    value: float | None = None
    """The mean metric with all that is applied so far and this step; None where it is not known."""
    without: float | None = None
    """The mean metric on the same images without this step."""
    gain: float | None = None
    """By how much it is better with it."""
    standard_error: float | None = None
    """Of the gain, paired by images."""
    images: int = 0
    reason: str = ""
    """Why it is not applied, or not measured."""

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value:.4f}"
        value += "" if self.without is None else f" ({self.without:.4f} without)"
        text = f"{self.name}{value}: {self.what}"
        if self.gain is not None:
            text += f", {Difference(self.gain, self.standard_error or 0.0)}"
        if not self.applied:
            return f"{text}; not applied: {self.reason}"
        return f"{text}; {self.reason}" if self.reason else text


def step(
    name: str, what: str, after: Scores, before: Scores | None, mode: str, **more: Any
) -> Step:
    """A step whose scores are known, and those without it; on the folds that both have."""
    folds = sorted(after if before is None else after.keys() & before.keys())
    own = joined(after, folds)
    value = float(oriented(own.mean(), mode))
    more = {"applied": True, "images": len(own), **more}
    if before is None:
        return Step(name, what, value=value, **more)
    gain = gain_of(after, before)
    more["without"] = float(oriented(joined(before, folds).mean(), mode))
    return Step(name, what, value=value, gain=gain.mean, standard_error=gain.error, **more)


def gain_of(after: Scores, before: Scores) -> Difference:
    """By how much one is better on the same images."""
    folds = sorted(after.keys() & before.keys())
    return paired(joined(after, folds).tolist(), joined(before, folds).tolist())


def joined(found: Scores, folds: Sequence[int]) -> NDArray[np.float64]:
    """The scores of these folds one after another."""
    return np.concatenate([found[fold] for fold in folds])


def helps(after: Scores, before: Scores) -> bool:
    """Whether a step is worth more than its standard error."""
    gain = gain_of(after, before)
    return gain.mean > gain.error


def ladder_lines(steps: Sequence[Step], metric: str) -> list[str]:
    """For the terminal."""
    if not any(step.name == "baseline" for step in steps):  # no folds: each says what it knows
        return [str(step) for step in steps]
    images = max(step.images for step in steps)
    head = f"ladder by {metric} on {images:,} images out of fold"
    lines = [f"{head}, each step judged on folds that it was not fitted to:"]
    return [*lines, *(f"  {step}" for step in steps)]

"""Two trials compared image by image: their difference, and how sure it is.

Most images are easy or hard for both, so the difference is known far better than either score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TELLABLE = 2.0  # standard errors from which on a difference counts as seen


@dataclass(frozen=True)
class Difference:
    """By how much one is better than the other, in units of the metric."""

    mean: float
    """Positive: the first is better."""
    error: float
    """Its standard error; infinite where there is but one number to compare."""

    @property
    def told(self) -> bool:
        """Whether the data tell one from the other."""
        return abs(self.mean) > TELLABLE * self.error

    def __str__(self) -> str:
        word = "better" if self.mean >= 0 else "worse"
        return f"{abs(self.mean):.4f} +- {self.error:.4f} {word}"


def mean_and_error(numbers: Sequence[float]) -> Difference:
    """The mean and its standard error: the sample's deviation over the root of its size."""
    count = len(numbers)
    mean = math.fsum(numbers) / count
    if count < 2:
        return Difference(mean, math.inf)
    squares = math.fsum((number - mean) ** 2 for number in numbers)
    return Difference(mean, math.sqrt(squares / (count - 1) / count))


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Of two scores for each of the same images, higher is better.

    mean(first - second), and the standard error of that mean.
    """
    return mean_and_error([one - other for one, other in zip(first, second, strict=True)])

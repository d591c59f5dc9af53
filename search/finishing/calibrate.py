"""One temperature for the retrained model, fitted to predictions of images not trained on.

    p_c(T) ~ p_c ** (1 / T)

Above 1 it makes a model less sure, below 1 more; the likeliest class stays the same (Guo et al.,
2017, 1706.04599). Only where the metric is log loss, and only where it helps on folds that it was
not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from search.files import read_json
from search.finishing.inputs import METADATA
from search.records.paired import mean_and_error

RANGE = (0.05, 20.0)  # of temperatures; nothing that can be used lies beyond
LEAST = 1e-15  # what Kaggle's log loss clips probabilities to

Floats = NDArray[np.floating[Any]]
Predicted = tuple[Floats, NDArray[np.int64]]
"""Logits, or log probabilities, (N, C) and labels (N,) of one fold."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and what it is worth."""

    temperature: float
    """1 where none is applied."""
    applied: bool
    gain: float = 0.0
    """By how much the log loss falls on the folds that each temperature was not fitted to."""
    standard_error: float = 0.0
    images: int = 0
    reason: str = ""
    """Why it is not applied."""

    def __str__(self) -> str:
        worth = (
            f"{self.gain:.4f} +- {self.standard_error:.4f} on {self.images:,} images out of fold"
        )
        if self.applied:
            return f"calibrated: temperature {self.temperature:.3f} lowers the log loss by {worth}"
        return f"not calibrated: {self.reason}" + (f" ({worth})" if self.images else "")


def losses(logits: Floats, labels: NDArray[np.int64], temperature: float) -> Floats:
    """The log loss of each image, (N,), clipped as Kaggle does it."""
    scores = log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]
    found: Floats = -np.maximum(scores, math.log(LEAST))
    return found


def fit_temperature(folds: Sequence[Predicted]) -> float:
    """The temperature of the lowest mean log loss; the loss has one minimum."""
    logits = np.concatenate([fold[0] for fold in folds])
    labels = np.concatenate([fold[1] for fold in folds])
    bounds = (math.log(RANGE[0]), math.log(RANGE[1]))

    def loss(log_temperature: float) -> float:
        return float(losses(logits, labels, math.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))


def calibrate(folds: Sequence[Predicted]) -> Calibration:
    """Fit to all folds, if what is fitted to the others helps each by more than its error."""
    gains: list[float] = []
    for number, (logits, labels) in enumerate(folds):
        others = [fold for place, fold in enumerate(folds) if place != number]
        gain = losses(logits, labels, 1.0) - losses(logits, labels, fit_temperature(others))
        gains += gain.tolist()
    worth = mean_and_error(gains)
    helps = worth.mean > worth.error
    return Calibration(
        fit_temperature(folds) if helps else 1.0,
        helps,
        worth.mean,
        worth.error,
        len(gains),
        "" if helps else "it does not help by more than its standard error",
    )


def temper(probabilities: Floats, temperature: float) -> Floats:
    """The probabilities (N, C) at another temperature."""
    if temperature == 1:
        return probabilities
    found: Floats = softmax(np.log(np.maximum(probabilities, LEAST)) / temperature, axis=1)
    return found


def recorded_temperature(search_dir: Path) -> float:
    """That of the retrained model; 1 without. Raises ValueError for what is no temperature."""
    path = search_dir / METADATA
    said: Any = (read_json(path).get("calibration") or {}).get("temperature", 1.0)
    if isinstance(said, bool) or not isinstance(said, int | float) or not said > 0:
        raise ValueError(f"{path}: calibration/temperature is {said!r}; retrain again")
    return float(said)


def described(calibration: Calibration) -> dict[str, Any]:
    """For metadata.json."""
    return asdict(calibration)

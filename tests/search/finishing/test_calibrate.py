"""One temperature, against answers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from search.finishing.calibrate import (
    Calibration,
    Predicted,
    calibrate,
    fit_temperature,
    losses,
    recorded_temperature,
    temper,
)


def fold(right: int, wrong: int, logit: float = 2.0) -> Predicted:
    """Images of two classes, all called class 0 with this logit; so many are of it."""
    logits = np.tile([logit, 0.0], (right + wrong, 1))
    return logits, np.array([0] * right + [1] * wrong)


def test_the_temperature_by_hand() -> None:
    """Three of four are right: the best probability is 3/4, so 2 / T = ln 3 and T = 1.8205."""
    assert fit_temperature([fold(3, 1)]) == pytest.approx(2 / math.log(3), rel=1e-4)
    assert fit_temperature([fold(3, 1), fold(6, 2)]) == pytest.approx(2 / math.log(3), rel=1e-4)
    assert fit_temperature([fold(99, 1)]) == pytest.approx(2 / math.log(99), rel=1e-4)


def test_the_loss_is_clipped_as_kaggle_does_it() -> None:
    logits = np.array([[100.0, 0.0], [0.0, 0.0]])
    found = losses(logits, np.array([1, 0]), 1.0)
    assert found.tolist() == pytest.approx([-math.log(1e-15), math.log(2)])


def test_what_helps_on_other_folds_is_applied_with_its_gain() -> None:
    """Each fold alike: T is the same for all, and the gain is that of one fold."""
    folds = [fold(75, 25, 4.0) for _ in range(4)]
    found = calibrate(folds)
    assert found.applied
    assert found.images == 400
    assert found.temperature == pytest.approx(4 / math.log(3), rel=1e-4)
    before = losses(*folds[0], 1.0).mean()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.gain == pytest.approx(before - entropy, rel=1e-6)
    assert "lowers the log loss by" in str(found)


def test_what_does_not_help_is_not_applied() -> None:
    """Probabilities that are right already: every fitted temperature is worse on another fold."""
    found = calibrate([fold(8, 2, math.log(3)), fold(7, 3, math.log(3))])
    assert not found.applied
    assert found.temperature == 1.0
    assert found.gain < 0
    assert "does not help" in str(found)


def test_the_likeliest_class_never_changes() -> None:
    rng = np.random.default_rng(0)
    odds = np.exp(rng.normal(0, 3, (500, 7)))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    for temperature in (0.2, 0.9, 1.0, 1.7, 15.0):
        found = temper(probabilities, temperature)
        assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        assert found.sum(axis=1) == pytest.approx(np.ones(500))
    assert temper(np.array([[0.75, 0.25]]), 2.0)[0, 0] == pytest.approx(3**0.5 / (3**0.5 + 1))
    assert temper(np.array([[1.0, 0.0]]), 2.0).min() > 0


def test_the_recorded_temperature(tmp_path: Path) -> None:
    path = tmp_path / "retrain" / "metadata.json"
    path.parent.mkdir()
    for said, expected in ((None, 1.0), ({"temperature": 1.5}, 1.5)):
        path.write_text(json.dumps({"calibration": said}))
        assert recorded_temperature(tmp_path) == expected
    path.write_text("{}")
    assert recorded_temperature(tmp_path) == 1.0
    path.write_text(json.dumps({"calibration": {"temperature": -1}}))
    with pytest.raises(ValueError, match=r"calibration/temperature is -1; retrain again"):
        recorded_temperature(tmp_path)


def test_without_predictions_out_of_fold_the_reason_is_told() -> None:
    assert str(Calibration(1.0, False, reason="why")) == "not calibrated: why"

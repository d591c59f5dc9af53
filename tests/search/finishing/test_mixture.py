"""Averaging and greedy selection, against answers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.finishing.calibrate import Floats
from search.finishing.evidence import Evidence
from search.finishing.ladder import Step, ladder_lines
from search.finishing.mixture import mix, select
from search.finishing.out_of_fold import Fold, Key, scores
from trainables.data import CENTRE

A, B, C = ("t0001", 0), ("t0002", 0), ("t0003", 0)
APART = {key: key[0] for key in (A, B, C)}
LABELS = np.array([0, 0])


def seen(*right: float) -> Floats:
    """Logits (1, N, 2) of a model that gives the true class, 0, these probabilities."""
    found: Floats = np.log(np.array([[[p, 1 - p] for p in right]]))
    return found


def by_loss(probabilities: Floats, labels: np.ndarray) -> Floats:
    """Negative log loss of each image."""
    return scores(probabilities, labels, "valid_loss")


def picked(most: int, **logits: Floats) -> dict[Key, int]:
    """What is selected of models A, B, C."""
    named = {{"A": A, "B": B, "C": C}[name]: each for name, each in logits.items()}
    return dict(select(named, LABELS, APART, most, by_loss))


def test_greedy_selection_by_hand() -> None:
    """Products of the two probabilities: A .45, AB .7 x .7 = .49; with a third at most .4856."""
    models = {"A": seen(0.9, 0.5), "B": seen(0.5, 0.9), "C": seen(0.6, 0.6)}
    assert picked(1, **models) == {A: 1}
    assert picked(10, **models) == {A: 1, B: 1}


def test_a_model_is_picked_again_where_more_of_it_is_better() -> None:
    """A .48, AB .65 x .75 = .4875, AAB .7 x .7 = .49, AAAB .4894, AABB .4875: three picks."""
    models = {"A": seen(0.8, 0.6), "B": seen(0.5, 0.9)}
    assert picked(2, **models) == {A: 1, B: 1}
    assert picked(10, **models) == {A: 2, B: 1}


def test_selection_by_accuracy_counts_right_images() -> None:
    """A is right once, B is; together both: (.6, .55)."""

    def by_accuracy(probabilities: Floats, labels: np.ndarray) -> Floats:
        return scores(probabilities, labels, "valid_acc")

    logits = {A: seen(0.9, 0.3), B: seen(0.3, 0.8)}
    assert dict(select(logits, LABELS, APART, 9, by_accuracy)) == {A: 1, B: 1}


def test_probabilities_are_averaged_and_logits_of_what_is_merged() -> None:
    logits = {A: np.array([[[2.0, 0.0]]]), B: np.array([[[0.0, 0.0]]])}
    apart = mix({A: 1, B: 1}, logits, APART)
    assert apart[0, 0] == pytest.approx((1 / (1 + math.exp(-2)) + 0.5) / 2)
    merged = mix({A: 1, B: 1}, logits, {A: "same", B: "same"})
    assert merged[0, 0] == pytest.approx(1 / (1 + math.exp(-1)))
    thrice = mix({A: 2, B: 1}, logits, {A: "same", B: "same"})
    assert thrice[0, 0] == pytest.approx(1 / (1 + math.exp(-4 / 3)))


def test_a_group_counts_by_its_picks() -> None:
    """Two merged picks and one other: two thirds of one probability, one third of the other."""
    logits = {A: np.array([[[2.0, 0.0]]]), B: np.array([[[0.0, 0.0]]]), C: np.array([[[3.0, 0.0]]])}
    found = mix({A: 1, B: 1, C: 1}, logits, {A: "same", B: "same", C: "other"})
    assert found[0, 0] == pytest.approx(2 / 3 / (1 + math.exp(-1)) + 1 / 3 / (1 + math.exp(-3)))


def test_looks_are_averaged_as_probabilities() -> None:
    logits = {A: np.array([[[2.0, 0.0]], [[-1.0, 0.0]]])}
    wanted = (1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(1))) / 2
    assert mix({A: 1}, logits, APART)[0, 0] == pytest.approx(wanted)


def test_scores_are_clipped_as_kaggle_does_it() -> None:
    probabilities = np.array([[0.0, 1.0], [0.25, 0.75]])
    found = scores(probabilities, np.array([0, 1]), "valid_loss")
    assert found.tolist() == pytest.approx([math.log(1e-15), math.log(0.75)])
    assert scores(probabilities, np.array([0, 1]), "valid_acc").tolist() == [0, 1]


def test_the_temperature_is_fitted_after_averaging_by_hand() -> None:
    """Both together say .8, three of four are right: ln 4 / T = ln 3. Alone they say .9 and .7."""
    labels = np.array([0, 0, 0, 1])

    def always(right: float) -> Fold:
        return Fold({CENTRE: np.log(np.tile([right, 1 - right], (4, 1)))}, labels)

    folds = {A: {0: always(0.9), 1: always(0.9)}, B: {0: always(0.7), 1: always(0.7)}}
    evidence = Evidence("valid_loss", folds, APART)
    found = evidence.temperature({A: 1, B: 1}, (), [0, 1])
    assert found == pytest.approx(math.log(4) / math.log(3), rel=1e-4)
    alone = evidence.temperature({A: 1}, (), [0])
    assert alone == pytest.approx(math.log(9) / math.log(3), rel=1e-4)
    tempered = evidence.all_scores({A: 1, B: 1}, (), found)[1]
    assert tempered.tolist() == pytest.approx([math.log(3 / 4)] * 3 + [math.log(1 / 4)], rel=1e-4)


def test_without_folds_a_step_says_what_it_knows() -> None:
    step = Step("averaged", "over all, judged on valid", True, 0.5, 0.51, 0.01, 0.004)
    assert ladder_lines([step], "valid_loss") == [
        "averaged 0.5000 (0.5100 without): over all, judged on valid, 0.0100 +- 0.0040 better"
    ]
    assert ladder_lines([], "valid_loss") == []

"""Paired differences and their standard errors, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from search.records.compared import compare
from search.records.outcomes import Outcomes, outcomes_path, read_outcomes, write_outcomes
from search.records.paired import Difference, mean_and_error, paired


def test_the_difference_and_its_error_by_hand() -> None:
    """Differences 1, 2, 3, 6: mean 3; squares 4 + 1 + 0 + 9 = 14; sqrt(14 / 3 / 4) = 1.0801."""
    found = paired([2.0, 4.0, 6.0, 10.0], [1.0, 2.0, 3.0, 4.0])
    assert found.mean == 3.0
    assert found.error == pytest.approx(1.0801234497)
    assert found.told
    assert str(found) == "3.0000 +- 1.0801 better"
    back = paired([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 10.0])
    assert (back.mean, back.error) == (-3.0, found.error)


def test_what_both_find_hard_does_not_blur_the_difference() -> None:
    hard = [0.0, 100.0, 3.0, 50.0]
    found = paired([x + 1 for x in hard], hard)
    assert found == Difference(1.0, 0.0)
    assert mean_and_error(hard).error > 20


def test_one_number_has_no_known_error_and_tells_nothing() -> None:
    assert mean_and_error([5.0]) == Difference(5.0, math.inf)
    assert not paired([5.0], [1.0]).told


def outcomes(trial_id: str, losses: list[float], correct: list[int]) -> Outcomes:
    return Outcomes(trial_id, 3, tuple(losses), tuple(correct))


BEST = outcomes("t0002", [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 0])
LIKE = outcomes("t0001", [0.2, 0.1, 0.4, 0.4], [1, 1, 0, 1])
WORSE = outcomes("t0000", [1.1, 1.2, 1.3, 1.5], [0, 0, 1, 0])


def test_the_best_is_compared_with_each_other_trial() -> None:
    """By loss: .1, -.1, .1, 0 over the runner-up; 1, 1, 1, 1.1 over the baseline."""
    known = {o.trial_id: o for o in (BEST, LIKE, WORSE)}
    found = compare("t0002", "valid_loss", ["t0002", "t0001", "t0000", "t0009"], known)
    assert found is not None
    assert [other.trial_id for other in found.others] == ["t0001", "t0000"]
    assert found.others[0].by["valid_loss"].mean == pytest.approx(0.025)
    assert found.others[0].by["valid_loss"].error == pytest.approx(math.sqrt(0.0275 / 12))
    assert found.others[0].by["valid_acc"].mean == 0.0
    assert found.others[0].by["valid_acc"].error == pytest.approx(math.sqrt(2 / 12))
    assert found.others[1].by["valid_loss"].mean == pytest.approx(1.025)
    assert found.alike == ["t0001"]
    assert found.error == pytest.approx(math.sqrt(0.05 / 12))
    described = found.described("t0000")
    assert described["not_told_apart"] == ["t0001"]
    assert described["images"] == 4


def test_what_is_not_known_is_left_out() -> None:
    assert compare("t0002", "valid_loss", ["t0002"], {"t0001": LIKE}) is None
    other_images = outcomes("t0001", [0.1], [1])
    found = compare("t0002", "valid_loss", ["t0001"], {"t0002": BEST, "t0001": other_images})
    assert found is not None
    assert found.others == ()


def test_a_file_comes_back_as_it_was_and_a_changed_one_is_told(tmp_path: Path) -> None:
    write_outcomes(tmp_path, BEST)
    write_outcomes(tmp_path, LIKE)
    damage: list[str] = []
    assert read_outcomes(tmp_path, damage) == {"t0001": LIKE, "t0002": BEST}
    assert not damage
    path = outcomes_path(tmp_path, "t0001")
    path.write_text(path.read_text().replace("0.4", "0.3", 1))
    assert read_outcomes(tmp_path, damage) == {"t0002": BEST}
    assert damage == [f"{path}, line 1: is not as it was written"]

"""Folds of the labelled images: by hand, and what must hold for any."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.packed_folders import write_digits
from trainables import digits
from trainables.folds import place, plan_folds


def test_by_hand() -> None:
    """Two identical images of two classes go first, into fold 0; then class by class in turn.

    Each of the others goes where its class has fewer images: `a` has one in fold 0 already, so its
    first goes to fold 1; then both have one, and the smaller fold is chosen.
    """
    digests = ["x", "x", "p", "q", "r", "s"]
    labels = ["a", "b", "a", "a", "b", "b"]
    plan = plan_folds(labels, digests, 2)
    assert plan[0] == plan[1] == 0
    first_a = min(("p", "q"), key=place)
    assert plan[digests.index(first_a)] == 1
    assert Counter(zip(labels, plan, strict=True))[("a", 1)] >= 1
    assert Counter(plan) == {0: 3, 1: 3}


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_every_image_is_in_one_fold_with_its_duplicates_and_its_class_spread(
    num_folds: int,
) -> None:
    rng = random.Random(num_folds)
    digests = [f"{n:03d}" for n in range(200)] + [f"{n:03d}" for n in range(0, 40, 2)]
    labels = [f"c{rng.randrange(8)}" for _ in digests]
    plan = plan_folds(labels, digests, num_folds)
    assert set(plan) == set(range(num_folds))
    for digest in set(digests):
        assert len({fold for fold, d in zip(plan, digests, strict=True) if d == digest}) == 1
    sizes = Counter(plan)
    assert max(sizes.values()) - min(sizes.values()) <= 8
    for name in set(labels):
        counts = Counter(fold for fold, label in zip(plan, labels, strict=True) if label == name)
        assert max(counts.values()) - min(counts[f] for f in range(num_folds)) <= 2
    order = list(range(len(labels)))
    rng.shuffle(order)
    shuffled = plan_folds([labels[i] for i in order], [digests[i] for i in order], num_folds)
    assert shuffled == [plan[i] for i in order]


def test_more_folds_than_distinct_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 folds of 2 distinct images"):
        plan_folds(["a", "b", "a"], ["x", "y", "x"], 3)


def test_a_trial_trains_on_all_folds_but_its_own(tmp_path: Path) -> None:
    folder = write_digits(tmp_path, 150)
    seen: list[str] = []
    for fold in range(3):
        config = dataclasses.replace(digits.CONFIG, num_folds=3, fold=fold, device="cpu")
        data = digits.load_data(folder, config)
        assert len(data.train) + len(data.valid) == len(data.train_valid) == 150
        seen += data.valid_ids
    assert len(seen) == len(set(seen)) == 150
    plain = digits.load_data(folder, dataclasses.replace(digits.CONFIG, device="cpu"))
    assert set(plain.valid_ids) != set(data.valid_ids)

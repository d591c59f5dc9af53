"""Properties of the split, on generated label sets and on Kaggle's own label files."""

from __future__ import annotations

import csv
import hashlib
import itertools
import random
import tarfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.split import TRAIN, VALID, plan_split

Labels = dict[str, str]
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**63)


@st.composite
def label_sets(draw: st.DrawFn, max_classes: int = 8, max_size: int = 40) -> Labels:
    """Some classes of any size; ids in an order that has nothing to do with the classes."""
    sizes = draw(st.lists(st.integers(1, max_size), min_size=1, max_size=max_classes))
    names = [f"class {number}" for number, size in enumerate(sizes) for _ in range(size)]
    return {f"id{i}": name for i, name in enumerate(draw(st.permutations(names)))}


@st.composite
def grouped(draw: st.DrawFn, max_size: int = 10) -> tuple[Labels, list[list[str]]]:
    """Labels and groups of identical images, within and across classes."""
    labels = draw(label_sets(max_classes=5, max_size=max_size))
    parts = draw(st.lists(st.integers(0, 12), min_size=len(labels), max_size=len(labels)))
    groups: dict[int, list[str]] = {}
    for image_id, part in zip(labels, parts, strict=True):
        groups.setdefault(part, []).append(image_id)
    return labels, [ids for part, ids in groups.items() if part > 3 and len(ids) > 1]


def all_groups(labels: Labels, identical: Sequence[Collection[str]]) -> list[list[str]]:
    """The groups and the images that are alone."""
    shared = {i for ids in identical for i in ids}
    return [list(ids) for ids in identical] + [[i] for i in labels if i not in shared]


def one_sided(labels: Labels, groups: Sequence[Sequence[str]], plan: Mapping[str, str]) -> set[str]:
    """Classes with at least two distinct images that are on one side only."""
    distinct = Counter(label for ids in groups for label in {labels[i] for i in ids})
    sides: dict[str, set[str]] = {}
    for image_id, side in plan.items():
        sides.setdefault(labels[image_id], set()).add(side)
    return {label for label, number in distinct.items() if number > 1 and len(sides[label]) < 2}


@settings(deadline=None)
@given(label_sets(), fractions, seeds)
def test_every_class_is_split_near_the_fraction(labels: Labels, fraction: float, seed: int) -> None:
    plan = plan_split(labels, [], fraction, seed)
    assert plan.keys() == labels.keys()
    assert set(plan.values()) <= {TRAIN, VALID}
    sizes = Counter(labels.values())
    valid = Counter(labels[i] for i, side in plan.items() if side == VALID)
    for label, size in sizes.items():
        if size == 1:
            assert valid[label] == 0
        else:
            assert 1 <= valid[label] <= size - 1
            assert abs(valid[label] - fraction * size) < 1 or valid[label] in (1, size - 1)
    if all(1 <= fraction * size <= size - 1 for size in sizes.values()):
        assert abs(sum(valid.values()) - fraction * len(labels)) <= 0.5 + 1e-9


@settings(deadline=None)
@given(grouped(), fractions, seeds)
def test_identical_images_share_a_side(
    case: tuple[Labels, list[list[str]]], fraction: float, seed: int
) -> None:
    labels, identical = case
    plan = plan_split(labels, identical, fraction, seed)
    assert plan.keys() == labels.keys()
    for ids in identical:
        assert len({plan[i] for i in ids}) == 1


@settings(deadline=None, max_examples=300)
@given(grouped(max_size=5), fractions, seeds)
def test_every_class_is_on_both_sides_wherever_its_groups_allow(
    case: tuple[Labels, list[list[str]]], fraction: float, seed: int
) -> None:
    labels, identical = case
    groups = all_groups(labels, identical)
    plan = plan_split(labels, identical, fraction, seed)
    if not one_sided(labels, groups, plan):
        return
    # A class with an image of its own can always be split; of the others try every arrangement.
    shared = [ids for ids in groups if len({labels[i] for i in ids}) > 1]
    for sides in itertools.product((TRAIN, VALID), repeat=len(shared)):
        tried = {i: side for ids, side in zip(shared, sides, strict=True) for i in ids}
        own = [(ids, labels[ids[0]]) for ids in groups if ids not in shared]
        rest = itertools.cycle((TRAIN, VALID))
        for ids, label in own:
            seen = {tried[i] for i in tried if labels[i] == label}
            side = (VALID if seen == {TRAIN} else TRAIN) if len(seen) == 1 else next(rest)
            tried |= dict.fromkeys(ids, side)
        assert one_sided(labels, groups, tried), "a better split exists"


@settings(deadline=None)
@given(grouped(), fractions, seeds, st.randoms(use_true_random=False))
def test_order_of_files_and_groups_does_not_matter(
    case: tuple[Labels, list[list[str]]], fraction: float, seed: int, shuffler: random.Random
) -> None:
    labels, identical = case
    plan = plan_split(labels, identical, fraction, seed)
    ids = list(labels)
    shuffler.shuffle(ids)
    groups = [shuffler.sample(group, len(group)) for group in identical]
    shuffler.shuffle(groups)
    assert plan_split({i: labels[i] for i in ids}, groups, fraction, seed) == plan


def test_a_class_of_shared_images_only_is_still_split() -> None:
    labels = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    plan = plan_split(labels, [["a1", "b1"], ["a2", "b2"]], 0.1, 0)
    assert plan["a1"] == plan["b1"] != plan["a2"] == plan["b2"]


def test_a_class_that_cannot_be_split_does_not_spoil_the_others() -> None:
    # Three groups, pairwise the only images of three classes: no arrangement splits all three.
    odd = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c"}
    identical = [["a1", "b1"], ["b2", "c1"], ["c2", "a2"]]
    pair = {"x1": "x", "y1": "y", "x2": "x", "y2": "y"}
    plan = plan_split(odd | pair, [*identical, ["x1", "y1"], ["x2", "y2"]], 0.1, 0)
    assert plan["x1"] != plan["x2"]
    assert len(one_sided(odd, identical, {i: plan[i] for i in odd})) == 1


def test_many_groups_that_contest_each_other_end_soon() -> None:
    labels = {
        f"{side}{i}": f"class{(i + (side == 'r')) % 999}" for i in range(999) for side in "lr"
    }
    identical = [[f"l{i}", f"r{i}"] for i in range(999)]  # an odd ring: one class must fail
    plan = plan_split(labels, identical, 0.1, 0)
    assert all(plan[f"l{i}"] == plan[f"r{i}"] for i in range(999))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_splits_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        plan_split({"a": "x"}, [], fraction, 0)


def digest(plan: Mapping[str, str]) -> str:
    """A short name for a whole plan."""
    text = "".join(f"{i} {plan[i]}\n" for i in sorted(plan))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_plan_is_the_same_on_every_machine() -> None:
    labels = {f"{i}": f"class {i * i % 7}" for i in range(500)}
    plan = plan_split(labels, [["1", "6"], ["2", "3"]], 0.1, 0)
    assert digest(plan) == "7cbb4bdfebe95eb1"


def check_kaggle_split(labels: Labels, expected: str) -> None:
    """The properties that matter on a real label file, and the plan itself."""
    plan = plan_split(labels, [], 0.1, 0)
    valid = Counter(labels[i] for i, side in plan.items() if side == VALID)
    for label, size in Counter(labels.values()).items():
        assert abs(valid[label] - size / 10) < 1
    assert sum(valid.values()) == round(len(labels) / 10)
    assert digest(plan) == expected
    assert digest(plan_split(labels, [], 0.1, 1)) != expected


def read_labels_csv(text: str) -> Labels:
    """id -> label, the header left out."""
    rows = list(csv.reader(text.splitlines()))
    return {row[0]: row[1] for row in rows[1:]}


def test_kaggles_dog_labels(shared_data: Path) -> None:
    labels = read_labels_csv((shared_data / "dog_kaggle_labels.csv").read_text())
    assert len(labels) == 10_222
    check_kaggle_split(labels, "cd302f3d45d093f3")


def test_kaggles_cifar10_labels(shared_data: Path) -> None:
    archive = shared_data / "d2l_kaggle_cifar10_1000samples.tar.gz"
    with tarfile.open(archive) as opened:
        name = next(name for name in opened.getnames() if name.endswith("trainLabels.csv"))
        member = opened.extractfile(name)
        assert member is not None
        labels = read_labels_csv(member.read().decode())
    assert len(labels) == 50_000
    check_kaggle_split(labels, "9675073e46a4ae8e")

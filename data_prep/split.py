"""Labels and a seed -> which images are `train` and which `valid`. Pure: no files, no random state.

The plan depends on ids, labels, groups of identical images, fraction and seed alone. Where a random
order is needed it is the order of SHA-256 digests, the same with every version on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

TRAIN, VALID = "train", "valid"
MAX_TRIES = 10_000  # of the search for sides of contested groups; then the best guess stands


@dataclass(frozen=True)
class Group:
    """Identical images, which share a side; most often a single one."""

    ids: tuple[str, ...]
    sizes: Mapping[str, int]
    """Class -> its images in the group. More than one class: the labels are in conflict."""


def plan_split(
    labels: Mapping[str, str],
    identical: Iterable[Collection[str]],
    valid_fraction: float,
    seed: int,
) -> dict[str, str]:
    """id -> "train" or "valid", stratified by class.

    `labels` is id -> class. `identical` holds sets of ids whose images are the same; each set stays
    on one side. Every class with at least two distinct images is on both sides (unless its groups,
    shared with other classes, make that impossible); a class with one is in train. The share of
    each class is as close to `valid_fraction` as its groups let it be, and so is the whole.

    Raises ValueError unless 0 < valid_fraction < 1.
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(f"valid_fraction {valid_fraction} must lie between 0 and 1")
    groups = sorted(make_groups(labels, identical), key=lambda group: key(seed, group.ids[0]))
    by_class: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        for name in group.sizes:
            by_class[name].append(group)
    plan = Plan(by_class, targets(by_class, valid_fraction, seed))
    for group in contested_valid(by_class):
        plan.take(group)
    for name in sorted(by_class):
        plan.fill(name)
    for group in groups:
        if len(group.sizes) > 1 and plan.has_room(group):
            plan.take(group)
    return {i: VALID if i in plan.valid else TRAIN for i in sorted(labels)}


def key(seed: int, text: str) -> bytes:
    """A place in the seed's random order."""
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def make_groups(labels: Mapping[str, str], identical: Iterable[Collection[str]]) -> list[Group]:
    """Every image in exactly one group."""
    shared = [tuple(sorted(set(ids))) for ids in identical]
    members = [i for ids in shared for i in ids]
    assert len(members) == len(set(members)), "an image is in two groups"
    alone = labels.keys() - set(members)
    return [
        Group(ids, Counter(labels[i] for i in ids))
        for ids in (*shared, *((i,) for i in alone))
        if ids
    ]


def targets(
    by_class: Mapping[str, Sequence[Group]], valid_fraction: float, seed: int
) -> dict[str, int]:
    """Class -> its number of `valid` images by largest remainders, at least one where possible."""
    fraction = Fraction(str(valid_fraction))  # the decimal number that was meant
    sizes = {name: sum(g.sizes[name] for g in groups) for name, groups in by_class.items()}
    most = {name: sizes[name] - 1 if len(by_class[name]) > 1 else 0 for name in sizes}
    wanted = {name: min(most[name], max(1, math.floor(fraction * sizes[name]))) for name in sizes}
    left = round(fraction * sum(sizes.values())) - sum(wanted.values())
    remainders = sorted(
        (n for n in sizes if wanted[n] < most[n] and wanted[n] < fraction * sizes[n]),
        key=lambda name: (wanted[name] - fraction * sizes[name], key(seed, name)),
    )
    for name in remainders[: max(0, left)]:
        wanted[name] += 1
    return wanted


class Plan:
    """The `valid` side while it is being filled."""

    def __init__(self, by_class: Mapping[str, Sequence[Group]], wanted: Mapping[str, int]) -> None:
        self.by_class = by_class
        self.wanted = wanted
        self.valid: set[str] = set()
        self.counts: Counter[str] = Counter()

    def take(self, group: Group) -> None:
        """Put a group into `valid`."""
        self.valid.update(group.ids)
        self.counts.update(group.sizes)

    def has_room(self, group: Group) -> bool:
        """Whether the group is still in train, and no class would get more than wanted by it."""
        return group.ids[0] not in self.valid and all(
            self.counts[name] + size <= self.wanted[name] for name, size in group.sizes.items()
        )

    def fill(self, name: str) -> None:
        """Bring one class near its number with groups that no other class shares."""
        own = [group for group in self.by_class[name] if len(group.sizes) == 1]
        for group in own:
            if self.has_room(group):
                self.take(group)
        # What is left is too big by now: one more if that comes nearer, or if there is none yet.
        rest = [group for group in own if group.ids[0] not in self.valid]
        images = sum(group.sizes[name] for group in self.by_class[name])
        if not rest or len(self.by_class[name]) < 2:
            return
        smallest = min(rest, key=lambda group: group.sizes[name])  # the first of equals
        short, size = self.wanted[name] - self.counts[name], smallest.sizes[name]
        stays = self.counts[name] + size < images
        if stays and (self.counts[name] == 0 or size - short < short):
            self.take(smallest)


def contested_valid(by_class: Mapping[str, Sequence[Group]]) -> list[Group]:
    """Groups that must be `valid` for classes with none of their own to be on both sides."""
    contested: dict[str, Group] = {}
    classes: list[list[str]] = []
    for _, groups in sorted(by_class.items()):
        if len(groups) > 1 and all(len(group.sizes) > 1 for group in groups):
            contested |= {group.ids[0]: group for group in groups}
            classes.append([group.ids[0] for group in groups])
    return [
        contested[name]
        for part in connected(classes)
        for name, side in two_colour(part).items()
        if side == VALID
    ]


def connected(sets: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """The sets by connected component: sets of different components share no member."""
    parts: list[tuple[set[str], list[Sequence[str]]]] = []
    for members in sets:
        touched = [part for part in parts if not part[0].isdisjoint(members)]
        joined = set(members).union(*(part[0] for part in touched))
        inside = [inner for part in touched for inner in part[1]]
        parts = [part for part in parts if part not in touched]
        parts.append((joined, [*inside, members]))
    return [inside for _, inside in parts]


def two_colour(sets: Sequence[Sequence[str]]) -> dict[str, str]:
    """A side for each member such that no set is on one side only.

    Depth-first search that tries train first; where there is no answer, or none in MAX_TRIES steps,
    the deepest attempt.
    """
    names = list(dict.fromkeys(name for members in sets for name in members))
    sides: list[str] = []
    best: list[str] = []
    for _ in range(MAX_TRIES + len(names)):
        found = dict(zip(names, sides, strict=False))
        if not any(is_one_sided(members, found) for members in sets):
            best = max(best, sides, key=len).copy()
            if len(sides) == len(names):
                break
            sides.append(TRAIN)
            continue
        while sides and sides[-1] == VALID:
            sides.pop()
        if not sides:
            break
        sides[-1] = VALID
    return {name: side for name, side in zip(names, best, strict=False)}


def is_one_sided(members: Sequence[str], sides: Mapping[str, str]) -> bool:
    """Whether all members have a side, and it is the same."""
    return len({sides.get(name) for name in members}) == 1 and members[0] in sides

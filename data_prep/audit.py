"""What is in the source, what of it can be used, and what cannot and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_prep.image_names import suffix
from data_prep.image_tree import find_images
from data_prep.inspect_images import ImageFacts, inspect_images
from data_prep.labelled import Labelled, ids_of, read_labelled
from data_prep.layout import FOUND, Layout, SourceOptions
from data_prep.predicted import Wanted, test_images, wanted
from data_prep.progress import Track, no_progress
from data_prep.source import SourceFiles


@dataclass(frozen=True)
class Audit:
    """The usable images, and everything else by name. Every list is sorted."""

    labels: dict[str, str]
    """id -> label of each usable labelled image."""
    sides: dict[str, str]
    """id -> train or valid, where the source is split already; else empty."""
    test_ids: list[str]
    """Id of each usable test image."""
    wanted: Wanted
    """Sample submission and answer key of the test images."""
    identical: list[list[str]]
    """Ids whose images are the same byte for byte, two or more each."""
    conflicts: list[list[str]]
    """Those of `identical` with more than one label."""
    small_classes: list[str]
    """Classes with fewer than two distinct images: all in train."""
    test_in_train: list[str]
    """Ids of test images that are also labelled images, byte for byte."""
    skipped: dict[str, list[str]]
    """Reason -> what was left out for it."""
    lost_classes: list[str]
    """Labels that no usable image has."""
    notes: list[str]
    """What was found out and is worth a line."""
    label_rows: int
    facts: dict[str, ImageFacts]
    """`train/<id>` or `test/<id>` -> facts of every image that was looked at."""
    files: dict[str, str]
    """The same keys -> files (text: there may be 350,000, and a Path costs more than a stat)."""
    paths: dict[str, str]
    """The same keys -> paths below the folder of the labelled or the test images."""


def audit(
    layout: Layout,
    source: SourceFiles,
    known: Mapping[str, ImageFacts],
    track: Track = no_progress,
    options: SourceOptions = FOUND,
) -> Audit:
    """Look at every label and every image; `known` are facts of earlier calls.

    Raises ValueError when no labelled image is usable, or a table cannot be read.
    """
    labelled = read_labelled(layout, source, options)
    test = test_images(layout, source, labelled, options)
    of_id = ids_of(list(labelled.labels))
    of_test_id = ids_of(list(test.files))
    paths = {f"train/{i}": path for i, path in of_id.items()}
    files = {f"train/{i}": labelled.files[path] for i, path in of_id.items()}
    paths |= {f"test/{i}": path for i, path in of_test_id.items()}
    files |= {f"test/{i}": test.files[path] for i, path in of_test_id.items()}
    facts = inspect_images(files, known, track)
    labels = {i: labelled.labels[p] for i, p in of_id.items() if is_good(facts, f"train/{i}")}
    images = {path: i for i, path in of_test_id.items() if is_good(facts, f"test/{i}")}
    unlabelled = labelled.problems["unlabelled_files"]
    skipped = {
        **labelled.problems,
        "unlabelled_files": [name for name in unlabelled if name not in test.files],
        "undecodable": undecodable(facts, paths, "train/"),
        "undecodable_test": undecodable(facts, paths, "test/"),
        "other_test_files": list(test.others),
        "unused_folders": not_used(source, bool(labelled.sides)),
        "left_packed": sorted(source.left_packed),
    }
    if not labels:
        raise ValueError(nothing_usable(source, labelled, skipped))
    told = wanted(layout, source, options, test, images, sorted(set(labels.values())))
    groups = identical_images(labels, facts)
    digests = {facts[f"train/{i}"].digest for i in labels}
    return Audit(
        labels=labels,
        sides={i: labelled.sides[of_id[i]] for i in labels if labelled.sides},
        test_ids=list(images.values()),
        wanted=told,
        identical=groups,
        conflicts=[ids for ids in groups if len({labels[i] for i in ids}) > 1],
        small_classes=[] if labelled.sides else small_classes(labels, facts),
        test_in_train=[i for i in images.values() if facts[f"test/{i}"].digest in digests],
        skipped=skipped | told.problems,
        lost_classes=lost_classes(labelled.seen, labels),
        notes=[*labelled.notes, *told.notes],
        label_rows=labelled.rows,
        facts=facts,
        files=files,
        paths=paths,
    )


def is_good(facts: Mapping[str, ImageFacts], key: str) -> bool:
    """Whether the image was found, read and decoded."""
    return key in facts and not facts[key].error


def undecodable(
    facts: Mapping[str, ImageFacts], paths: Mapping[str, str], prefix: str
) -> list[str]:
    """`file: reason` of each image that cannot be used."""
    return sorted(
        f"{paths[key]}: {fact.error}"
        for key, fact in facts.items()
        if fact.error and key.startswith(prefix)
    )


def not_used(source: SourceFiles, is_split: bool) -> list[str]:
    """Folders of the source that hold images and are no part of it, with their number.

    `is_split`: its validation side is used.
    """
    parts = (source.train, source.test, source.valid if is_split else None)
    used = [path for path in parts if path is not None]
    numbers: Counter[str] = Counter()
    for root in source.roots:
        if root != source.train and source.train not in root.parents:
            tree = find_images(root, skip=used)
            images = [*tree.files, *filter(suffix, tree.others)]
            numbers.update(path.rpartition("/")[0] or root.name for path in images)
    return [f"{name}: {number} images" for name, number in sorted(numbers.items())]


def lost_classes(seen: Mapping[str, int], labels: Mapping[str, str]) -> list[str]:
    """Labels of which no image can be used, with their number of rows or images."""
    lost = seen.keys() - set(labels.values())
    return sorted(f"{label} ({seen[label]:,} labelled)" for label in lost)


def identical_images(labels: Mapping[str, str], facts: Mapping[str, ImageFacts]) -> list[list[str]]:
    """Groups of two or more ids with the same bytes."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for image_id in labels:
        by_digest[facts[f"train/{image_id}"].digest].append(image_id)
    return sorted(ids for ids in by_digest.values() if len(ids) > 1)


def small_classes(labels: Mapping[str, str], facts: Mapping[str, ImageFacts]) -> list[str]:
    """Classes with fewer than two distinct images."""
    distinct: dict[str, set[str]] = defaultdict(set)
    for image_id, label in labels.items():
        distinct[label].add(facts[f"train/{image_id}"].digest)
    return sorted(label for label, digests in distinct.items() if len(digests) < 2)


def nothing_usable(
    source: SourceFiles, labelled: Labelled, skipped: Mapping[str, Sequence[str]]
) -> str:
    """The one line that says why there is nothing to train on."""
    found = ", ".join(
        f"{words(name)} {len(names):,} ({names[0]})" for name, names in skipped.items() if names
    )
    notes = "".join(f"; {note}" for note in labelled.notes)
    return (
        f"no usable labelled image in {source.train}: {labelled.rows:,} rows or files are labelled"
        f" ({found or 'nothing found'}){notes}: check that labels and images belong together"
    )


def words(name: str) -> str:
    """`missing_files` as `missing files`."""
    return name.replace("_", " ")

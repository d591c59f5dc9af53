"""What is in the download, what of it can be used, and what cannot and why."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.files import is_plain_name
from data_prep.inspect_images import ImageFacts, inspect_images
from data_prep.labels import LabelTable, read_csv, read_labels
from data_prep.progress import Track, no_progress
from data_prep.source import KaggleLayout, SourceFiles


@dataclass(frozen=True)
class Audit:
    """The usable images, and everything else by name. Every list is sorted."""

    labels: dict[str, str]
    """id -> label of each usable labelled image."""
    test_ids: list[str]
    """Id of each usable test image."""
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
    label_rows: int
    facts: dict[str, ImageFacts]
    """`train/<id>` or `test/<id>` -> facts of every image that was looked at."""
    files: dict[str, str]
    """The same keys -> paths (text: there may be 350,000, and a Path costs more than a stat)."""


def audit(
    layout: KaggleLayout,
    source: SourceFiles,
    known: Mapping[str, ImageFacts],
    track: Track = no_progress,
) -> Audit:
    """Look at every label and every image; `known` are facts of earlier calls.

    Raises ValueError when no labelled image is usable, or the CSV of labels is not one.
    """
    table = read_labels(source.labels, layout.label_column)
    present, odd = image_files(source.train, layout.suffix)
    test, odd_test = image_files(source.test, layout.suffix) if source.test else ({}, [])
    files = {f"train/{i}": present[i] for i in sorted(table.labels.keys() & present.keys())}
    files |= {f"test/{i}": path for i, path in sorted(test.items())}
    facts = inspect_images(files, known, track)
    labels = {i: table.labels[i] for i in sorted(table.labels) if is_good(facts, f"train/{i}")}
    test_ids = [i for i in sorted(test) if is_good(facts, f"test/{i}")]
    skipped = {
        **label_problems(table),
        "missing_files": sorted(table.labels.keys() - present.keys()),
        "unlabelled_files": sorted(
            [os.path.basename(present[i]) for i in present.keys() - table.labels] + odd
        ),
        "undecodable": undecodable(facts, files, "train/"),
        "undecodable_test": undecodable(facts, files, "test/"),
        "other_test_files": odd_test,
        "left_packed": sorted(source.left_packed),
        **sample_problems(source.sample_submission, test_ids),
    }
    if not labels:
        raise ValueError(nothing_usable(source, table, skipped))
    groups = identical_images(labels, facts)
    digests = {facts[f"train/{i}"].digest for i in labels}
    return Audit(
        labels=labels,
        test_ids=test_ids,
        identical=groups,
        conflicts=[ids for ids in groups if len({labels[i] for i in ids}) > 1],
        small_classes=small_classes(labels, facts),
        test_in_train=[i for i in test_ids if facts[f"test/{i}"].digest in digests],
        skipped=skipped,
        label_rows=table.rows,
        facts=facts,
        files=files,
    )


def image_files(folder: Path, suffix: str) -> tuple[dict[str, str], list[str]]:
    """id -> image file, and the names of files that are none: another suffix, an odd name."""
    images: dict[str, str] = {}
    others: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        stem, ending = os.path.splitext(entry.name)
        if ending.lower() != suffix or not is_plain_name(stem) or stem in images:
            others.append(printable(entry.name))
        elif not entry.is_file():  # a folder, a broken link
            others.append(printable(entry.name))
        else:
            images[stem] = os.path.realpath(entry) if entry.is_symlink() else entry.path
    return images, others


def printable(name: str) -> str:
    """The name as text that any file can hold."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_good(facts: Mapping[str, ImageFacts], key: str) -> bool:
    """Whether the image was found, read and decoded."""
    return key in facts and not facts[key].error


def label_problems(table: LabelTable) -> dict[str, list[str]]:
    """What is wrong with rows of the CSV of labels."""
    return {
        "bad_ids": sorted(table.bad_ids),
        "bad_labels": sorted(table.bad_labels),
        "repeated_ids": sorted(table.repeated_ids),
        "contradictory_ids": table.contradictory_ids,
    }


def undecodable(
    facts: Mapping[str, ImageFacts], files: Mapping[str, str], prefix: str
) -> list[str]:
    """`file: reason` of each image that cannot be used."""
    return sorted(
        f"{os.path.basename(files[key])}: {fact.error}"
        for key, fact in facts.items()
        if fact.error and key.startswith(prefix)
    )


def sample_problems(sample: Path | None, test_ids: Sequence[str]) -> dict[str, list[str]]:
    """Where the test images are not those of the sample submission."""
    test = set(test_ids)
    wanted = {row[0] for row in islice(read_csv(sample), 1, None) if row} if sample else test
    return {
        "sample_ids_without_image": sorted(wanted - test),
        "test_images_not_in_sample": sorted(test - wanted),
    }


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
    source: SourceFiles, table: LabelTable, skipped: Mapping[str, Sequence[str]]
) -> str:
    """The one line that says why there is nothing to train on."""
    found = ", ".join(f"{words(name)} {len(names)}" for name, names in skipped.items() if names)
    return (
        f"no usable labelled image in {source.train}: {source.labels.name} has {table.rows} rows"
        f" ({found or 'nothing found'}): check that both belong together"
    )


def words(name: str) -> str:
    """`missing_files` as `missing files`."""
    return name.replace("_", " ")


def audit_record(found: Audit, plan: Mapping[str, str]) -> dict[str, Any]:
    """The audit and the split's counts as audit.json holds them."""
    sides = list(plan.values())
    counts = {
        "label_rows": found.label_rows,
        "labelled": len(found.labels),
        "classes": len(set(found.labels.values())),
        "train": sides.count("train"),
        "valid": sides.count("valid"),
        "test": len(found.test_ids),
        "identical_groups": len(found.identical),
        "conflicts": len(found.conflicts),
        "small_classes": len(found.small_classes),
        "test_in_train": len(found.test_in_train),
        **{reason: len(names) for reason, names in found.skipped.items()},
    }
    return {
        "counts": counts,
        "duplicates": found.identical,
        "conflicts": [
            {"ids": ids, "labels": [found.labels[i] for i in ids]} for ids in found.conflicts
        ],
        "small_classes": found.small_classes,
        "test_in_train": found.test_in_train,
        "skipped": found.skipped,
    }


def summarise(record: Mapping[str, Any]) -> str:
    """A few lines for the reader, from what audit.json holds."""
    counts: Mapping[str, int] = record["counts"]
    lines = [
        f"{counts['labelled']:,} labelled images of {counts['classes']} classes:"
        f" {counts['train']:,} train, {counts['valid']:,} valid; {counts['test']:,} test images"
    ]
    found = {name: counts[name] for name in record["skipped"] if counts[name]}
    if found:
        left_out = ", ".join(f"{words(name)} {count:,}" for name, count in found.items())
        lines.append(f"left out or odd: {left_out}")
    if counts["identical_groups"]:
        lines.append(
            f"groups of identical images, each kept on one side: {counts['identical_groups']:,},"
            f" with different labels: {counts['conflicts']:,}"
        )
    if counts["small_classes"]:
        lines.append(f"classes too small to split, all in train: {counts['small_classes']:,}")
    if counts["test_in_train"]:
        lines.append(f"test images that are labelled images as well: {counts['test_in_train']:,}")
    return "\n".join(lines)

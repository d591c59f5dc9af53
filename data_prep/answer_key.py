"""The answer key of the test images, for scoring alone: nothing else reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.class_folders import class_labels
from data_prep.image_tree import ImageTree
from data_prep.labels import read_labels
from data_prep.layout import FOUND
from data_prep.tables import Table


@dataclass(frozen=True)
class AnswerKey:
    """What can be scored, and what cannot."""

    answers: dict[str, str]
    """Id of a readable test image -> one of the classes."""
    problems: dict[str, list[str]]


def key_from_table(
    table: Table, images: Mapping[str, str], classes: Collection[str], expected: str | None
) -> AnswerKey:
    """The key that a table holds; `images` is path -> id of each readable test image.

    Raises ValueError when it has no column of ids or labels.
    """
    found = read_labels(table, images, FOUND, expected)
    key = checked(found.labels, images, classes)
    problems = found.problems
    blank = [*problems["bad_labels"], *problems["bad_ids"], *problems["broken_rows"]]
    key.problems["answers_without_label"] = sorted(blank)
    key.problems["answers_without_image"] = problems["missing_files"]
    key.problems["answers_contradictory"] = problems["contradictory_ids"]
    return key


def key_from_folders(
    tree: ImageTree, images: Mapping[str, str], classes: Collection[str]
) -> AnswerKey | None:
    """The key that `test/<class>/` is; None where no folder has the name of a class."""
    labels = {path: label for path, label in class_labels(tree).items() if path in images}
    if not set(labels.values()) & set(classes):
        return None
    return checked(labels, images, classes)


def checked(
    labels: Mapping[str, str], images: Mapping[str, str], classes: Collection[str]
) -> AnswerKey:
    """A class that no labelled image has is never scored: the last class would be taken for it."""
    answers = {images[path]: label for path, label in labels.items() if label in classes}
    unknown = [f"{images[path]}: {name}" for path, name in labels.items() if name not in classes]
    rest = sorted(set(images.values()) - {images[path] for path in labels})
    return AnswerKey(
        answers,
        {"answers_of_no_class": sorted(unknown), "test_images_without_answer": rest},
    )


def answers_table(answers: Mapping[str, str]) -> str:
    """test_labels.csv: id, label; in the key's own order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label"])
    writer.writerows(answers.items())
    return text.getvalue()


def load_answers(path: Path) -> dict[str, str]:
    """Id of each test image that can be scored -> its class, from a prepared folder."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row["label"] for row in csv.DictReader(file)}

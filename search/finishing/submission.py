"""Predicted probabilities -> the checked table that Kaggle accepts, in the sample's own words."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.files import clear_parts, replacing
from data_prep.sample_submission import SampleSubmission

Kind = Literal["label", "probabilities"]
SUM_TOLERANCE = 1e-4
SMALLEST = 1e-15  # probabilities are clipped there for the log loss, as Kaggle's metric does


@dataclass(frozen=True)
class Predictions:
    """What the model says of each image: probabilities (N, C) of N ids and C classes."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]

    @staticmethod
    def of(
        ids: Sequence[str], classes: Sequence[str], probabilities: NDArray[np.floating]
    ) -> Predictions:
        """Each row scaled to the sum 1. Raises ValueError for what is no probability."""
        values = probabilities.astype(np.float64)
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError("submission not written: a probability is not finite or negative")
        values /= values.sum(axis=1, keepdims=True)
        return Predictions(tuple(ids), tuple(classes), values)

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each image."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)] if self.ids else []


@dataclass(frozen=True)
class Submission:
    """A table as text: columns by position, since a class may have the name of the id column."""

    header: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[str, ...] | None
    """One a row, where the kind is `label`."""
    values: NDArray[np.float64] | None
    """(rows, class columns), where the kind is `probabilities`."""

    def write(self, path: Path) -> None:
        """Write the CSV file, whole or not at all."""
        clear_parts(path.parent, path.name)
        with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(self.header)
            if self.labels is not None:
                table.writerows(zip(self.ids, self.labels, strict=True))
            elif self.values is not None:
                for row_id, row in zip(self.ids, self.values, strict=True):
                    table.writerow([row_id, *(f"{value:.9g}" for value in row)])


def make_submission(
    kind: Kind,
    predictions: Predictions,
    sample: SampleSubmission | None = None,
    frequencies: Mapping[str, float] | None = None,
) -> Submission:
    """A row for each id of the sample, in its order, under its names of columns.

    Without a sample: a row for each image, `id,label` or `id` and a column a class. An id of the
    sample without a readable image gets the classes' `frequencies`. A column of a class that no
    labelled image has gets 0, and what the sample has no column for is left out; each row then sums
    to 1 again. Raises ValueError unless Kaggle would accept the table.
    """
    images: Sequence[str | None]
    meant: Sequence[str | None]
    header: tuple[str, ...]
    if sample is None:
        header = ("id", "label") if kind == "label" else ("id", *predictions.classes)
        ids, images, meant = predictions.ids, predictions.ids, predictions.classes
    else:
        kind = sample.kind
        named = (sample.label_column or "label",) if kind == "label" else sample.class_columns
        header, ids = (sample.id_column, *named), sample.ids
        images, meant = sample.images, sample.classes
    rows = with_fallback(predictions, images, frequencies)
    check_ids(ids)
    if kind == "label":
        return Submission(header, ids, tuple(rows.labels), None)
    place = {name: number for number, name in enumerate(predictions.classes)}
    values = np.zeros((len(ids), len(meant)))
    for column, name in enumerate(meant):
        if name is not None:
            values[:, column] = rows.probabilities[:, place[name]]
    sums = values.sum(axis=1, keepdims=True)
    values = np.where(sums > 0, values / np.where(sums > 0, sums, 1), 1 / values.shape[1])
    if np.abs(values.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise ValueError("submission not written: probabilities of an image do not sum to 1")
    return Submission(header, ids, None, values)


def with_fallback(
    predictions: Predictions,
    images: Sequence[str | None],
    frequencies: Mapping[str, float] | None,
) -> Predictions:
    """The predictions of these images; of those that have none, the classes' frequencies."""
    place = {image: row for row, image in enumerate(predictions.ids)}
    given = frequencies or {}
    usual = np.array([given.get(name, 1.0) for name in predictions.classes], dtype=np.float64)
    usual /= usual.sum()
    rows = [
        predictions.probabilities[place[image]] if image in place else usual for image in images
    ]
    probabilities = np.array(rows).reshape(len(images), len(predictions.classes))
    return Predictions(tuple(map(str, images)), predictions.classes, probabilities)


def check_ids(ids: Sequence[str]) -> None:
    """Raise ValueError where there is nothing to write, or an id appears twice."""
    if not ids:
        raise ValueError("submission not written: there are no test images")
    if len(set(ids)) < len(ids):
        raise ValueError("submission not written: an id appears twice")


def score(predictions: Predictions, answers: Mapping[str, str]) -> tuple[float, float]:
    """Accuracy and log loss (nats) over the images that `answers` (id -> class) has.

    Raises ValueError where it has none of them.
    """
    place = {name: number for number, name in enumerate(predictions.classes)}
    known = [row for row, image in enumerate(predictions.ids) if image in answers]
    if not known:
        raise ValueError("the answer key has none of the test images")
    truth = np.array([place[answers[predictions.ids[row]]] for row in known])
    probabilities = predictions.probabilities[known]
    accuracy = float((probabilities.argmax(axis=1) == truth).mean())
    picked = np.clip(probabilities[np.arange(len(truth)), truth], SMALLEST, 1)
    return accuracy, float(-np.log(picked).mean())

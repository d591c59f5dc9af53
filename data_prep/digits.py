"""scikit-learn's 1,797 real handwritten digits, 8x8 grey, written as a small Kaggle download.

A fifth of them is the test part, which has an answer key. Needs no download.
Source: https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from data_prep.layout import Layout

TEST_SHARE = 5  # every fifth image of a class
GREY_LEVELS = 16  # the data set's own scale is 0 to 16


def write_source(folder: Path) -> None:
    """Write the download into `folder`: train/, test/ and the three CSV files of `LAYOUT`."""
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    images = (digits.images * 255 / GREY_LEVELS).round().astype("uint8")
    labels = [str(label) for label in digits.target]
    test, train = test_and_train(labels)
    for name, chosen in (("train", train), ("test", test)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(chosen, start=1):
            Image.fromarray(images[index]).save(folder / name / f"{number}.png")
    write_labels(folder / "trainLabels.csv", [labels[i] for i in train])
    write_labels(folder / "testLabels.csv", [labels[i] for i in test])
    write_labels(folder / "sampleSubmission.csv", ["0"] * len(test))


def test_and_train(labels: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the test and of the other images, every class alike, in one fixed random order."""
    shuffled = sorted(range(len(labels)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    test: list[int] = []
    train: list[int] = []
    seen: Counter[str] = Counter()
    for index in shuffled:
        (train if seen[labels[index]] % TEST_SHARE else test).append(index)
        seen[labels[index]] += 1
    return test, train


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write `id,label` rows with ids from 1."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label"])
        writer.writerows(enumerate(labels, start=1))


LAYOUT = Layout(
    task="digits",
    labels="trainLabels.csv",
    label_column="label",
    sample_submission="sampleSubmission.csv",
    test_labels="testLabels.csv",
    image_size=8,
    write_source=write_source,
)

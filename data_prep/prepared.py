"""The prepared data of one task, as the later stages find it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.digests import find_change
from data_prep.files import from_json
from data_prep.pack import PACKED_FILES, read_packed
from data_prep.sample_submission import SampleSubmission, load_sample
from data_prep.summary import summarise

TABLES = (
    "audit.json classes.txt split.csv stats.json sample_submission.json test_labels.csv".split()
)
"""What `prepare` writes and later stages read; the folder has digests of them."""


@dataclass(frozen=True)
class PreparedData:
    """One task's folder, complete and consistent."""

    root: Path
    classes: tuple[str, ...]
    """Sorted; the position is the label number."""
    split: pd.DataFrame
    """Columns id, label, split (`train` or `valid`), text, sorted by id; labelled images only."""
    fingerprint: str
    """Identity of images, labels, split and packed size."""
    summary: str
    """What the audit found, a few lines."""
    test_images: int
    """Images to predict, without labels."""
    image_size: int | None = None
    """Side of the square that images were packed to, where the task chose it by their sizes."""

    @property
    def has_test_images(self) -> bool:
        """Whether there is anything to predict."""
        return any((self.root / "test" / "unknown").glob("*"))

    @property
    def sample_submission(self) -> Path | None:
        """The sample submission as the source had it, where it had one."""
        return existing(self.root / "sample_submission.csv")

    @property
    def sample(self) -> SampleSubmission | None:
        """What the sample submission asks for, where there is one."""
        path = self.root / "sample_submission.json"
        return load_sample(path) if path.is_file() else None

    @property
    def test_labels(self) -> Path | None:
        """The answer key (`id,label`) of the test images that can be scored, where there is one."""
        return existing(self.root / "test_labels.csv")


def existing(path: Path) -> Path | None:
    """The path, if there is a file."""
    return path if path.is_file() else None


def load_prepared(root: Path) -> PreparedData:
    """Open the folder that `prepare` made.

    Raises FileNotFoundError where there is none, and ValueError where it is incomplete or a file is
    not as it was written.
    """
    if not (root / "audit.json").is_file():
        what = "no prepared data in" if not (root / "split.csv").exists() else "no audit.json in"
        raise FileNotFoundError(f"{what} {root}: run `resnet-tune prepare {root.name}`")
    change = find_change(root, TABLES)
    if change is not None:
        raise ValueError(incomplete(root, change))
    try:
        record: dict[str, Any] = from_json((root / "audit.json").read_text(encoding="utf-8"))
        classes = tuple((root / "classes.txt").read_text(encoding="utf-8").split("\n")[:-1])
        split = pd.read_csv(root / "split.csv", dtype=str, keep_default_na=False, encoding="utf-8")
        identity = str(record["fingerprint"])
        summary = summarise(record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(incomplete(root, f"{type(error).__name__}: {error}")) from None
    try:
        packed = read_packed(root / "packed", identity)
    except ValueError as error:
        raise ValueError(incomplete(root, str(error))) from None
    test_images, size = len(packed["test_ids"]), record.get("image_size")
    return PreparedData(root, classes, split, identity, summary, test_images, size)


def incomplete(root: Path, reason: str) -> str:
    """What to do about a folder that is not as `prepare` leaves it."""
    return (
        f"prepared data in {root} is incomplete or damaged ({reason}):"
        f" run `resnet-tune prepare {root.name}`"
    )


def damage(root: Path) -> list[str]:
    """What is not as a finished `prepare` left it, in the words of `find_change`."""
    if not (root / "audit.json").is_file():
        return []
    changes = (find_change(root, TABLES), find_change(root / "packed", PACKED_FILES))
    return [change for change in changes if change is not None]

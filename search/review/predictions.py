"""What the best trial's own model, which never saw `valid`, says of it: right, wrong, how sure."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.images import decode, no_pillow_warnings, read_file
from data_prep.safe_names import safe_names
from search.records.digests import check_digest
from search.records.search import Search

THUMBNAILS = 18
SIDE = 112  # pixels of a thumbnail's longer side
BINS = 10  # of the reliability diagram


@dataclass(frozen=True)
class Verdicts:
    """`labels` (N,) class numbers, `probabilities` (N, C) float, N ids, C class names."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest class of each image, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of that class, (N,)."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether that class is the true one, (N,)."""
        return np.asarray(self.predicted == self.labels)

    def confusion(self) -> NDArray[np.int64]:
        """How many images of class i were called class j, (C, C)."""
        counts = np.zeros((len(self.classes),) * 2, dtype=np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    def confused_pairs(self, most: int = 12) -> list[tuple[str, str, int, int]]:
        """True class, predicted class, how many images, of how many: the most frequent first."""
        counts = self.confusion()
        totals = counts.sum(axis=1)
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        cells = [divmod(int(cell), len(self.classes)) for cell in order]
        return [
            (self.classes[i], self.classes[j], int(wrong[i, j]), int(totals[i]))
            for i, j in cells
            if wrong[i, j]
        ]

    def reliability(self) -> list[tuple[float, float, int]]:
        """Mean confidence, accuracy and number of images of each bin that has any."""
        bins = np.minimum((self.confidence * BINS).astype(int), BINS - 1)
        groups = [bins == number for number in range(BINS)]
        return [
            (float(self.confidence[g].mean()), float(self.right[g].mean()), int(g.sum()))
            for g in groups
            if g.any()
        ]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy, weighted by images."""
        gaps = [abs(sure - right) * count for sure, right, count in self.reliability()]
        return sum(gaps) / len(self.ids)

    def worst(self, most: int = THUMBNAILS) -> list[int]:
        """The images that are most confidently wrong, worst first."""
        wrong = np.flatnonzero(~self.right)
        order = np.argsort(-self.confidence[wrong], kind="stable")
        return [int(i) for i in wrong[order][:most]]


def load_verdicts(search: Search) -> Verdicts | None:
    """The predictions that `retrain` left for `valid`; None where there are none.

    Raises ValueError when the file is damaged.
    """
    path = search.path / "retrain" / "valid_predictions.npz"
    if not path.is_file():
        return None
    check_digest(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Verdicts(
                tuple(str(i) for i in arrays["ids"]),
                arrays["labels"].astype(np.int64),
                arrays["probabilities"].astype(np.float64),
                tuple(str(name) for name in arrays["classes"]),
            )
    except (OSError, KeyError, ValueError):  # numpy's text advises to unpickle what it refused
        raise ValueError(f"{path} is damaged; run `resnet-tune retrain` again") from None
    return found if len(found.ids) else None


def thumbnail(root: Path, class_name: str, image_id: str, classes: Sequence[str]) -> str | None:
    """A validation image as a small data URI; None where the prepared data are not at hand.

    It is decoded as the model saw it. `classes` are all of them: their folders' names depend on it.
    """
    folder = root / "valid" / safe_names(classes)[class_name]
    files = (file for file in folder.glob("*") if image_id in (file.stem, unquote(file.stem)))
    file = next(files, None)
    if file is None:
        return None
    try:
        with no_pillow_warnings():
            return data_uri(decode(read_file(file)))
    except (OSError, ValueError):
        return None


def data_uri(image: Image.Image) -> str:
    """An image of at most SIDE pixels as a data URI: tiny ones as PNG, photographs as JPEG."""
    tiny = max(image.size) <= 64
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    if tiny:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=78)
    kind = "png" if tiny else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Small downloads in Kaggle's layout, for the tests of data_prep."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.layout import Layout

LAYOUT = Layout(
    task="toy",
    labels="labels.csv",
    label_column="label",
    sample_submission="sample.csv",
    test_labels="answers.csv",
    image_size=4,
)


def png(number: int, size: tuple[int, int] = (4, 4)) -> bytes:
    """A PNG whose pixels are random but belong to the number; `size` is height, width."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_download(
    folder: Path,
    rows: Sequence[tuple[str, str]],
    images: Mapping[str, bytes] | None = None,
    test: int = 3,
) -> Path:
    """Write labels.csv, an image for each row (random, or from `images`), test images, a sample."""
    (folder / "train").mkdir(parents=True)
    (folder / "test").mkdir()
    lines = ["id,label", *(f"{row_id},{label}" for row_id, label in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    contents = {row_id: png(number) for number, (row_id, _) in enumerate(rows)} | dict(images or {})
    for row_id, content in contents.items():
        (folder / "train" / f"{row_id}.png").write_bytes(content)
    for number in range(1, test + 1):
        (folder / "test" / f"{number}.png").write_bytes(png(1000 + number))
    sample = [f"{number},cat\n" for number in range(1, test + 1)]
    (folder / "sample.csv").write_text("id,label\n" + "".join(sample), encoding="utf-8")
    return folder


def write_table(
    folder: Path,
    rows: Sequence[tuple[str, str]],
    *,
    header: str = "id,label",
    separator: str = ",",
    encoding: str = "utf-8",
    files: Sequence[str] | None = None,
) -> Path:
    """Write labels.csv and in train/ an image for each row, called as in `files` or `<id>.png`."""
    write_images(folder / "train", files or [f"{row_id}.png" for row_id, _ in rows])
    lines = [header.replace(",", separator), *(f"{i}{separator}{label}" for i, label in rows)]
    (folder / "labels.csv").write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return folder


def write_images(folder: Path, names: Sequence[str], first: int = 0) -> Path:
    """Write images of random pixels that belong to their place in the list, counted from first."""
    for number, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    return folder


def cats_and_dogs(number: int = 10) -> list[tuple[str, str]]:
    """`number` rows of each of two classes."""
    return [(f"{label[0]}{i}", label) for label in ("cat", "dog") for i in range(number)]


def unpack_tar(archive: Path, folder: Path) -> Path:
    """Unpack one of the shared data sets."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder

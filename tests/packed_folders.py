"""Small `packed/` folders of real images, written as data_prep documents them."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep import cifar10, digits, dog_breed
from data_prep.decode_files import decode_usable
from data_prep.layout import Layout
from data_prep.pack import ImageArrays

VALID_EVERY = 4  # every fourth labelled image is valid


def write_digits(root: Path, count: int = 400) -> Path:
    """`count` handwritten digits and 40 test images."""
    source = root / "source"
    digits.write_source(source)
    with (source / "trainLabels.csv").open() as file:
        labels = {row["id"]: row["label"] for row in csv.DictReader(file)}
    files = [source / "train" / f"{image_id}.png" for image_id in itertools.islice(labels, count)]
    test = sorted((source / "test").iterdir())[:40]
    return write_packed(root, digits.LAYOUT, files, [labels[file.stem] for file in files], test)


def write_cifar10(root: Path, shared_data: Path, count: int = 120) -> Path:
    """`count` labelled CIFAR-10 images of the shared sample and 10 test images."""
    archive = shared_data / "cifar10_kaggle_5000_1000.tar.gz"
    return write_download(root, cifar10.LAYOUT, archive, count, 10)


def write_dogs(root: Path, shared_data: Path, count: int = 32) -> Path:
    """`count` labelled dogs of the shared sample, of several sizes, and 6 test images."""
    archive = shared_data / "dog_kaggle_120x20_short256.tar"
    return write_download(root, dog_breed.LAYOUT, archive, count, 6)


def write_download(root: Path, layout: Layout, archive: Path, count: int, num_test: int) -> Path:
    """The first images in an archive of a Kaggle download."""
    train: list[Path] = []
    test: list[Path] = []
    with tarfile.open(archive) as members:
        for member in members:
            path = Path(member.name)
            wanted = path.name == layout.labels
            part = path.parent.name if path.suffix in (".png", ".jpg") else None
            if part == "train" and len(train) < count:
                train.append(root / "source" / path)
                wanted = True
            if part == "test" and len(test) < num_test:
                test.append(root / "source" / path)
                wanted = True
            if wanted:
                members.extract(member, root / "source", filter="data")
    assert layout.labels is not None
    (table,) = (root / "source").rglob(layout.labels)
    with table.open() as file:
        labels = {row["id"]: row[layout.label_column] for row in csv.DictReader(file)}
    return write_packed(root, layout, train, [labels[path.stem] for path in train], test)


def write_packed(
    root: Path,
    layout: Layout,
    files: Sequence[Path],
    labels: Sequence[str],
    test: Sequence[Path],
) -> Path:
    """Write `root`/packed and return `root`."""
    folder = root / "packed"
    folder.mkdir(parents=True)
    classes = sorted(set(labels))
    arrays = decode_usable(files, layout)[0]
    save(folder, "train_valid", arrays)
    save(folder, "test", decode_usable(test, layout)[0])
    mean, std = statistics(arrays.pixels)
    record = {
        "fingerprint": "of a test",
        "layout": "ragged" if arrays.shapes is not None else "fixed",
        "classes": classes,
        "ids": [file.stem for file in files],
        "labels": [classes.index(label) for label in labels],
        "digests": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        "splits": ["train" if i % VALID_EVERY else "valid" for i in range(len(files))],
        "test_ids": [file.stem for file in test],
        "mean": mean,
        "std": std,
    }
    (folder / "packed.json").write_text(json.dumps(record))
    return root


def save(folder: Path, name: str, arrays: ImageArrays) -> None:
    """Write pixels and, for images of any size, shapes."""
    np.save(folder / f"{name}.npy", arrays.pixels)
    if arrays.shapes is not None:
        np.save(folder / f"{name}_shapes.npy", arrays.shapes)


def statistics(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in 0 to 1."""
    flat = pixels.reshape(-1, 3) / 255
    return flat.mean(0).tolist(), flat.std(0).tolist()


def pil_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """uint8 (H, W, 3) as a PIL image."""
    return Image.fromarray(pixels)

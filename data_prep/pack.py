"""Images decoded once into uint8 arrays that every trial on a node maps and shares.

`packed/` is written whole or not at all, and belongs to one fingerprint of the data; any other is
rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.digests import find_change, has_digests, write_digests
from data_prep.files import from_json, remove_leftovers, to_json, whole_folder, write_text
from data_prep.images import no_pillow_warnings
from data_prep.progress import Track, no_progress
from data_prep.source import KaggleLayout
from data_prep.split import TRAIN
from data_prep.workers import spread
from data_prep.write_arrays import (
    BYTE_VALUES,
    Job,
    write_batch,
    write_header,
)

VERSION = 1  # of the arrays' layout; part of the fingerprint
RECORD = "packed.json"
ARRAYS = ("train_valid.npy", "test.npy")
SHAPES = ("train_valid_shapes.npy", "test_shapes.npy")  # of images of any size
PACKED_FILES = (RECORD, *ARRAYS, *SHAPES)


@dataclass(frozen=True)
class PackedImage:
    """One image to pack."""

    id: str
    path: str
    digest: str
    """SHA-256 of the file's bytes, in hex."""
    height: int
    width: int
    """Of the file; in pixels."""


@dataclass(frozen=True)
class Contents:
    """All that `packed/` holds. `train_valid`, `labels` and `splits` have the same order."""

    classes: tuple[str, ...]
    train_valid: tuple[PackedImage, ...]
    labels: tuple[int, ...]
    splits: tuple[str, ...]
    test: tuple[PackedImage, ...]


@dataclass(frozen=True)
class ImageArrays:
    """Decoded images.

    `pixels` is uint8: (N, H, W, 3) where all have one size, else every image's H*W*3 bytes one
    after another; `shapes` is then int32 (N, 2), height and width, else None.
    """

    pixels: NDArray[np.uint8]
    shapes: NDArray[np.int32] | None


def fingerprint(layout: KaggleLayout, contents: Contents) -> str:
    """SHA-256 over all that arrays, labels and split depend on: the prepared data's identity."""
    rows = zip(contents.train_valid, contents.labels, contents.splits, strict=True)
    identity = {
        "version": VERSION,
        "image_size": layout.image_size,
        "short_side": layout.short_side,
        "train_valid": [
            [image.id, contents.classes[label], side, image.digest] for image, label, side in rows
        ],
        "test": [[image.id, image.digest] for image in contents.test],
    }
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def pack(
    layout: KaggleLayout, contents: Contents, folder: Path, track: Track = no_progress
) -> dict[str, list[float]]:
    """Make `folder` hold the contents; return channel `mean` and `std` of train, in 0 to 1.

    Memory holds one image a core at a time. What is damaged, or has no digests to tell that by, is
    made again. Raises ValueError when a file is not the one that was audited.
    """
    identity = fingerprint(layout, contents)
    remove_leftovers(folder)
    with suppress(ValueError):
        found = read_packed(folder, identity)
        if has_digests(folder):
            return {"mean": found["mean"], "std": found["std"]}
    with whole_folder(folder) as partial_folder:
        stats = channel_stats(write_arrays(layout, contents, partial_folder, track))
        record = {
            "fingerprint": identity,
            "layout": "fixed" if layout.image_size else "ragged",
            **stats,
            "classes": contents.classes,
            "ids": [image.id for image in contents.train_valid],
            "labels": contents.labels,
            "splits": contents.splits,
            "digests": [image.digest for image in contents.train_valid],
            "test_ids": [image.id for image in contents.test],
            "test_digests": [image.digest for image in contents.test],
        }
        write_text(partial_folder / RECORD, to_json(record))
        write_digests(partial_folder)
    return stats


def read_packed(folder: Path, identity: str) -> dict[str, Any]:
    """packed.json, where the folder is whole and of this fingerprint.

    Raises ValueError that says what is wrong where it is not. Each file is read once in a process.
    """
    change = find_change(folder, PACKED_FILES)
    if change is not None:
        raise ValueError(change)
    try:
        record: dict[str, Any] = from_json((folder / RECORD).read_text(encoding="utf-8"))
        if record["fingerprint"] != identity:
            raise ValueError("it is of other data")
        for name in ARRAYS + (SHAPES if record["layout"] == "ragged" else ()):
            np.load(folder / name, mmap_mode="r")  # a truncated file cannot be mapped
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} cannot be used ({error})") from None
    return record


def packed_size(layout: KaggleLayout, height: int, width: int) -> tuple[int, int]:
    """Height and width that an image of this size is packed in.

    The short side shrinks to `short_side` as torchvision's Resize does it, and never grows.
    """
    if layout.image_size is not None:
        return layout.image_size, layout.image_size
    assert layout.short_side is not None
    short, long = sorted((height, width))
    if short <= layout.short_side:
        return height, width
    new_long = int(layout.short_side * long / short)
    return (layout.short_side, new_long) if height <= width else (new_long, layout.short_side)


def write_arrays(
    layout: KaggleLayout, contents: Contents, folder: Path, track: Track
) -> NDArray[np.int64]:
    """Write the arrays of pixels and shapes; int64 (3, 256): how often each value of each channel
    occurs in train."""
    counted = [side == TRAIN for side in contents.splits]
    jobs = begin_array(layout, contents.train_valid, counted, folder, "train_valid")
    jobs += begin_array(layout, contents.test, [False] * len(contents.test), folder, "test")
    counts = np.zeros((3, BYTE_VALUES), dtype=np.int64)

    def written(batches: Iterable[tuple[int, NDArray[np.int64]]]) -> Iterator[None]:
        for number, part in batches:
            counts[...] += part
            yield from repeat(None, number)

    with no_pillow_warnings(), closing(spread(write_batch, jobs)) as batches:
        for _ in track(written(batches), len(jobs), "pack images"):
            pass
    return counts


def begin_array(
    layout: KaggleLayout,
    images: Sequence[PackedImage],
    counted: Sequence[bool],
    folder: Path,
    name: str,
) -> list[Job]:
    """Write the head of `<name>.npy`, and `<name>_shapes.npy`; what is left to do for it."""
    sizes = [packed_size(layout, image.height, image.width) for image in images]
    num_bytes = [height * width * 3 for height, width in sizes]
    if layout.image_size is None:
        shape: tuple[int, ...] = (sum(num_bytes),)
        np.save(folder / f"{name}_shapes.npy", np.array(sizes, dtype=np.int32).reshape(-1, 2))
    else:
        shape = (len(images), layout.image_size, layout.image_size, 3)
    array = folder / f"{name}.npy"
    begins = accumulate(num_bytes, initial=write_header(array, shape))
    return [
        Job(image.path, image.digest, array, begin, *size, is_counted)
        for image, begin, size, is_counted in zip(images, begins, sizes, counted, strict=False)
    ]


def channel_stats(counts: NDArray[np.int64]) -> dict[str, list[float]]:
    """Mean and population standard deviation of each channel, in 0 to 1; exact."""
    stats = [histogram_stats(channel.tolist()) for channel in counts]
    return {"mean": [mean for mean, _ in stats], "std": [std for _, std in stats]}


def histogram_stats(counts: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation, in 0 to 1, from how often each byte value occurs."""
    number = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    deviation = math.sqrt(number * squares - total * total) / number
    return total / number / 255, deviation / 255

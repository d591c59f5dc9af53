"""Images decoded once into uint8 arrays that every trial on a node maps and shares.

`packed/` is written whole or not at all, and belongs to one fingerprint of the data; any other is
rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.files import remove_leftovers, to_json, whole_folder, write_text
from data_prep.images import decode, no_pillow_warnings, threaded
from data_prep.progress import Track, no_progress
from data_prep.source import KaggleLayout
from data_prep.split import TRAIN

VERSION = 1  # of the arrays' layout; part of the fingerprint
BYTE_VALUES = 256


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

    Images are streamed: memory holds a few hundred at a time. Raises ValueError when a file is not
    the one that was audited.
    """
    identity = fingerprint(layout, contents)
    remove_leftovers(folder)
    found = read_packed(folder, identity)
    if found is not None:
        return {"mean": found["mean"], "std": found["std"]}
    with whole_folder(folder) as partial_folder:
        for name, images in (("train_valid", contents.train_valid), ("test", contents.test)):
            write_images(layout, images, partial_folder, name, track)
        stats = channel_stats(layout, contents, partial_folder / "train_valid.npy")
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
        write_text(partial_folder / "packed.json", to_json(record))
    return stats


def read_packed(folder: Path, identity: str) -> dict[str, Any] | None:
    """packed.json, where the folder is complete and of this fingerprint; else None."""
    try:
        record: dict[str, Any] = json.loads((folder / "packed.json").read_text(encoding="utf-8"))
        names = ["train_valid", "test"]
        if record["layout"] == "ragged":
            names += ["train_valid_shapes", "test_shapes"]
        for name in names:
            np.load(folder / f"{name}.npy", mmap_mode="r")  # a truncated file cannot be mapped
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if record["fingerprint"] == identity else None


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


def to_pixels(layout: KaggleLayout, image: Image.Image) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) at the packed size; resized with antialiased bilinear interpolation."""
    height, width = packed_size(layout, image.height, image.width)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)


def read_pixels(layout: KaggleLayout, image: PackedImage) -> NDArray[np.uint8]:
    """Decode one image that was audited."""
    data = Path(image.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != image.digest:
        raise ValueError(f"{image.path} changed while it was being prepared: run prepare again")
    return to_pixels(layout, decode(data))


def write_images(
    layout: KaggleLayout, images: Sequence[PackedImage], folder: Path, name: str, track: Track
) -> None:
    """Write `<name>.npy` (and `<name>_shapes.npy`) image by image."""
    shapes = [packed_size(layout, image.height, image.width) for image in images]
    if layout.image_size is None:
        shape: tuple[int, ...] = (sum(height * width * 3 for height, width in shapes),)
        np.save(folder / f"{name}_shapes.npy", np.array(shapes, dtype=np.int32).reshape(-1, 2))
    else:
        shape = (len(images), layout.image_size, layout.image_size, 3)
    # Not a writable memory map: on a full disk that ends the process instead of raising OSError.
    with (folder / f"{name}.npy").open("wb") as file, no_pillow_warnings():
        write_header(file, shape)
        read = partial(read_pixels, layout)
        for pixels in track(threaded(read, images), len(images), f"pack {name}"):
            file.write(pixels.tobytes())


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """The header of an .npy file of uint8 in C order."""
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)  # type: ignore[no-untyped-call, unused-ignore]


def channel_stats(layout: KaggleLayout, contents: Contents, array: Path) -> dict[str, list[float]]:
    """Mean and population standard deviation of each channel over all pixels of train, in 0 to 1.

    One pass; exact, being computed from how often each of the 256 values occurs.
    """
    pixels = np.load(array, mmap_mode="r").reshape(-1, 3)
    counts = np.zeros((3, BYTE_VALUES), dtype=np.int64)
    for part in train_parts(layout, contents):
        for channel in range(3):
            counts[channel] += np.bincount(pixels[part, channel], minlength=BYTE_VALUES)
    stats = [histogram_stats(channel.tolist()) for channel in counts]
    return {"mean": [mean for mean, _ in stats], "std": [std for _, std in stats]}


def train_parts(layout: KaggleLayout, contents: Contents) -> Iterator[slice]:
    """Where the pixels of each train image lie in the array."""
    begin = 0
    for image, side in zip(contents.train_valid, contents.splits, strict=True):
        height, width = packed_size(layout, image.height, image.width)
        if side == TRAIN:
            yield slice(begin, begin + height * width)
        begin += height * width


def histogram_stats(counts: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation, in 0 to 1, from how often each byte value occurs."""
    number = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    deviation = math.sqrt(number * squares - total * total) / number
    return total / number / 255, deviation / 255


def decode_images(files: Sequence[Path], layout: KaggleLayout) -> ImageArrays:
    """Decode any image files as `pack` does it. Raises ValueError that names an unusable one."""
    with no_pillow_warnings():
        decoded = list(threaded(partial(decode_file, layout), files))
    if layout.image_size is not None:
        shape = (len(files), layout.image_size, layout.image_size, 3)
        return ImageArrays(np.array(decoded, dtype=np.uint8).reshape(shape), None)
    shapes = np.array([image.shape[:2] for image in decoded], dtype=np.int32).reshape(-1, 2)
    flat = [image.reshape(-1) for image in decoded]
    return ImageArrays(np.concatenate([np.zeros(0, dtype=np.uint8), *flat]), shapes)


def decode_file(layout: KaggleLayout, path: Path) -> NDArray[np.uint8]:
    """Decode one file."""
    try:
        return to_pixels(layout, decode(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"image {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"image {path} does not decode: {error}") from None

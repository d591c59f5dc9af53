"""Image files -> their pixels, each at its place in an .npy file, and how often each value occurs.

Places are known beforehand, so workers write into the file by themselves, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.images import decode, read_file

BYTE_VALUES = 256


@dataclass(frozen=True)
class Job:
    """One image, and where its pixels go."""

    path: str
    digest: str
    """As the audit found it: SHA-256 of the file's bytes, in hex, first."""
    array: Path
    """The .npy file, which exists."""
    begin: int
    """Its first byte there."""
    height: int
    width: int
    """Of what is written, in pixels."""
    counted: bool
    """Whether it belongs to the statistics."""


def write_header(path: Path, shape: tuple[int, ...]) -> int:
    """Begin an .npy file of uint8 in C order; the number of bytes written."""
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, description)  # type: ignore[no-untyped-call, unused-ignore]
        return file.tell()


def write_batch(jobs: Sequence[Job]) -> tuple[int, NDArray[np.int64]]:
    """Write images that follow one another; their number, and int64 (3, 256): how often each value
    of each channel occurs in those that are counted.

    Raises ValueError when a file is not the one that was audited.
    """
    counts = np.zeros((3, BYTE_VALUES), dtype=np.int64)
    for array, group in groupby(jobs, key=lambda job: job.array):
        # Not a writable memory map: on a full disk that ends the process, not in an OSError.
        with array.open("r+b") as file:
            for number, job in enumerate(group):
                if number == 0:
                    file.seek(job.begin)
                pixels = read_pixels(job)
                file.write(pixels.tobytes())
                if job.counted:
                    add_counts(counts, pixels)
    return len(jobs), counts


def add_counts(counts: NDArray[np.int64], pixels: NDArray[np.uint8]) -> None:
    """Add how often each value of each channel occurs in uint8 (H, W, 3)."""
    for channel, values in enumerate(pixels.reshape(-1, 3).T):
        counts[channel] += np.bincount(values, minlength=BYTE_VALUES)


def read_pixels(job: Job) -> NDArray[np.uint8]:
    """Decode one image that was audited."""
    data = read_file(job.path)
    if not job.digest.startswith(hashlib.sha256(data).hexdigest()):
        raise ValueError(f"{job.path} changed while it was being prepared: run prepare again")
    return to_pixels(decode(data), job.height, job.width)


def to_pixels(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of this size; resized with antialiased bilinear interpolation."""
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)

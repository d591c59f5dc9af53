"""Arrays in files that are whole or not there: checked when opened, written aside, kept in pieces.

A file is what numpy writes and then the SHA-256 of that. It appears under its name by a rename, so
several processes may write it at once, and none ever reads a half.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.files import replacing

Features = NDArray[np.float32]
CHUNK = 256  # images in a piece: what an interruption may cost
DIGEST_BYTES = 32
READ_BYTES = 2**20


def open_features(path: Path, count: int) -> Features | None:
    """Map the features (count, F) into memory; None when the file is missing or damaged.

    The size is compared at every call, the checksum once in a process. Memory is shared by all
    processes that map the file; writing to the array changes nothing in it.
    """
    try:
        stat = path.stat()
        if not is_intact(path, stat.st_size, stat.st_mtime_ns, stat.st_ino):
            return None
        array: Features = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.ndim == 2 and len(array) == count and array.dtype == np.float32 else None


@functools.lru_cache(maxsize=4096)
def is_intact(path: Path, size: int, modified: int, inode: int) -> bool:
    """Whether a file, which the other arguments tell from others, ends in the rest's checksum."""
    with path.open("rb") as file:
        found = digest_of(file.fileno(), size - DIGEST_BYTES)
        return found == os.pread(file.fileno(), DIGEST_BYTES, max(size - DIGEST_BYTES, 0))


def digest_of(file: int, size: int) -> bytes:
    """SHA-256 of the first bytes of an open file."""
    digest = hashlib.sha256()
    for begin in range(0, size, READ_BYTES):
        digest.update(os.pread(file, min(READ_BYTES, size - begin), begin))
    return digest.digest()


def write_features(path: Path, array: Features) -> None:
    """Write the array and its checksum, whole or not at all."""
    with replacing(path) as aside, aside.open("w+b") as file:
        np.save(file, np.ascontiguousarray(array, dtype=np.float32))
        file.flush()
        file.write(digest_of(file.fileno(), file.tell()))


def fill(
    path: Path, count: int, compute: Callable[[Sequence[range]], Iterator[Features]]
) -> Iterator[int]:
    """Write the features of `count` images; compute the pieces that no earlier call has left.

    `compute` yields the features of each of the ranges of images it is given, in order. Yields the
    number of images of each piece once it is safe, those that were there first.
    """
    folder = path.with_suffix(".pieces")
    folder.mkdir(parents=True, exist_ok=True)
    clear_aside(path.parent)
    clear_aside(folder)
    pieces = {
        range(first, min(first + CHUNK, count)): folder / f"{first:07d}.npy"
        for first in range(0, count, CHUNK)
    }
    missing = [rows for rows, piece in pieces.items() if open_features(piece, len(rows)) is None]
    yield from (len(rows) for rows in pieces if rows not in missing)
    computed = compute(missing) if missing else iter(())
    for rows, features in zip(missing, computed, strict=True):
        write_features(pieces[rows], features)
        yield len(rows)
    parts = [open_features(piece, len(rows)) for rows, piece in pieces.items()]
    write_features(path, np.concatenate([part for part in parts if part is not None]))
    shutil.rmtree(folder)


def clear_aside(folder: Path) -> None:
    """Remove what killed processes were writing. The caller holds the lock of the files."""
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)

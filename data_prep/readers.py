"""Who reads prepared data: while a search does, `prepare` does not put others in their place."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_prep.image_tree import ASIDE

READERS = "readers"  # in ASIDE: a lock that readers share


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """While active, the data in `root` stay what they are.

    Where the file system has no locks, or the folder cannot be written, nothing is held.
    """
    try:
        file = (root / ASIDE / READERS).open("a")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def check_unread(root: Path) -> None:
    """Raise ValueError while somebody reads the data."""
    try:
        with (root / ASIDE / READERS).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"a search is using {root}, and this would put other data in its place: wait for its"
            " end, or prepare them with another --data"
        ) from None
    except OSError:  # no locks here
        return

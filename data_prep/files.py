"""Files written whole or not at all, and names that are safe to make a path of."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)
RATIO, LEAST = 200, 1 << 30  # an archive's content over its size; bytes that any may hold
SWAP = 0.2  # seconds that `whole_folder` never takes between its two steps
MAX_NAME_BYTES = 200  # file systems allow 255; room for a suffix and for a name aside
# A leading dot, a Windows drive, separators of either kind, control characters, line ends
NOT_PLAIN = re.compile("^[.]|^[A-Za-z]:|[/\\\\\x00-\x1f\x7f\x85\u2028\u2029]")


def is_plain_name(name: str) -> bool:
    """Whether `name` is one visible file name on Linux, macOS and Windows, and one line of text."""
    if not name or NOT_PLAIN.search(name):
        return False
    try:
        return len(name.encode("utf-8")) <= MAX_NAME_BYTES
    except UnicodeEncodeError:  # lone surrogates: bytes that are no text
        return False


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """A file's bytes. Raises OSError; ValueError for no regular file, or one above `most` bytes.

    Asked of the file system first: a pipe would wait for ever, a device or a sparse file never end.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("no regular file")
    if status.st_size > most:
        raise ValueError(f"{status.st_size:,} bytes are too many: at most {most:,}")
    with open(path, "rb") as file:
        return file.read(status.st_size)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk in the block is told with this path, where the system names none."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it replaces `path` when the block ends without error.

    It is locked as long as its writer lives, so that `clear_parts` knows what a dead one has left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    aside = Path(name)
    try:
        with suppress(OSError):  # no locks here
            fcntl.flock(handle, fcntl.LOCK_EX)
        with naming(path):
            yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """One process at a time in the block, where the file system has locks; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def clear_parts(folder: Path, name: str = "") -> None:
    """Remove what killed processes were writing in a folder, or of one file, whose name is given.

    What a living one writes stays, where the file system has locks.
    """
    for left in folder.glob(f".{name}*.part"):
        with suppress(FileNotFoundError, BlockingIOError), left.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # no locks here
                pass
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write the file, whole or not at all, unless it already holds exactly this text.

    Bytes that are no text, of a name, are escaped.
    """
    data = text.encode("utf-8", "backslashreplace")
    if path.is_file() and path.read_bytes() == data:
        return
    with replacing(path) as aside:
        aside.write_bytes(data)


def to_json(value: Any) -> str:
    """Readable JSON text, a line end last; bytes that are no text, of a name, are escaped."""
    return printable(json.dumps(value, indent=1, ensure_ascii=False)) + "\n"


def from_json(text: str) -> Any:
    """The value. Raises ValueError for what is no JSON, or nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def printable(text: str) -> str:
    """The text as any file can hold it: lone surrogates are escaped, as JSON reads them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def most_bytes(archive: Path) -> int:
    """What an archive may unpack to; images are compressed already, so more is a bomb."""
    return max(LEAST, RATIO * archive.stat().st_size)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes `folder`'s place when the block ends without an error.

    Killed at any moment, it leaves the old folder or the new one, here or where `remove_leftovers`
    brings it back from. One process at a time.
    """
    aside, old = beside(folder)
    remove_leftovers(folder)
    aside.mkdir(parents=True)
    try:
        with naming(folder):
            yield aside
    except BaseException:
        remove_folder(aside)
        raise
    if folder.exists():
        os.replace(folder, old)  # a folder cannot be replaced by another in one step
    os.replace(aside, folder)
    remove_folder(old)


def beside(folder: Path) -> tuple[Path, Path]:
    """Where `whole_folder` fills the new folder, and where it puts the old one."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed `whole_folder` left beside the folder; an old one alone is put back."""
    bring_back(folder)
    for path in beside(folder):
        remove_folder(path)


def bring_back(folder: Path) -> None:
    """Put back the old folder where a kill came between its leaving and the new one's coming."""
    old = beside(folder)[1]
    if old.exists() and not folder.exists():
        time.sleep(SWAP)  # it may be a living process that is just there
        with suppress(FileNotFoundError):
            if not folder.exists():
                os.replace(old, folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; a link is removed, not followed; nothing there is fine."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)

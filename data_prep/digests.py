"""Digests beside files that are final, as sha256sum writes them: a later change is told."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from data_prep.files import write_text

SUMS = "SHA256SUMS"
READ_BYTES = 2**20


def write_digests(folder: Path, digests: Mapping[str, str] | None = None) -> None:
    """Write the digests, by file name, into the folder; without any those of all files in it."""
    if digests is None:
        files = [path for path in folder.iterdir() if path.is_file() and path.name != SUMS]
        digests = {path.name: digest(path) for path in files}
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests)]
    write_text(folder / SUMS, "".join(lines))


def has_digests(folder: Path) -> bool:
    """Whether there are digests: versions before wrote none, and their files are taken as is."""
    return (folder / SUMS).is_file()


def find_change(folder: Path, names: Collection[str]) -> str | None:
    """What is wrong with the first file that is not as it was when the digests were written.

    Of the names those are looked at that have a digest or a file. None where all is well, or where
    there are no digests. A file is read once in a process, until its size or times change.
    """
    if not has_digests(folder):
        return None
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    known = {name: found for found, _, name in (line.partition("  ") for line in lines)}
    for name in names:
        path = folder / name
        if not path.is_file():
            if name in known:
                return f"{path} is missing, of which {SUMS} knows"
        elif known.get(name) != digest(path):
            return f"{path} is not as it was written: its SHA-256 is not that of {SUMS}"
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex; read once in a process for each version of the file."""
    stat = path.stat()
    return digest_of(path, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def digest_of(path: Path, *_version: int) -> str:
    """The same, of a file that the other arguments tell from its other versions."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            found.update(part)
    return found.hexdigest()

"""Digests beside files that are final, as sha256sum writes them: a later change is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"
READ_BYTES = 2**20


def write_digests(folder: Path) -> None:
    """Write the digests of all files of a folder into it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{digest(path)}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_digest(path: Path) -> None:
    """Raise ValueError unless a file is as it was when its folder's digests were written.

    A folder without digests is one of a version before, and taken as it is.
    """
    sums = path.with_name(SUMS)
    if not sums.is_file():
        return
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
    if f"{digest(path)}  {path.name}" not in lines:
        raise ValueError(
            f"{path} is not as it was written: its SHA-256 is not that of {sums.name};"
            " run `resnet-tune retrain` again"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            found.update(part)
    return found.hexdigest()

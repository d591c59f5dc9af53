"""Digest and size of every image file, each file read again only when it changed."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from data_prep.files import write_text
from data_prep.images import RULES, decode, no_pillow_warnings, read_file, rules
from data_prep.progress import Track, no_progress
from data_prep.workers import spread

Signature = tuple[int, int, int, int]
"""Size, modification time, inode, change time: a file's state as the file system tells it."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file."""

    signature: Signature
    digest: str
    """SHA-256 of the file's bytes, in hex; empty when the file cannot be read.

    `+2` follows where the pixels are due to version 2 of the decoding, not to version 1: what was
    made of them before is not taken for the same.
    """
    height: int
    width: int
    error: str
    """Why it cannot be used; empty for a good image."""


Item = tuple[str, str, ImageFacts | None]
"""A file's key, its path, and what was known of it."""


def inspect_images(
    files: Mapping[str, str], known: Mapping[str, ImageFacts], track: Track = no_progress
) -> dict[str, ImageFacts]:
    """Facts of each file, under the files' own keys; `known` saves the work for unchanged files."""
    facts = {key: known[key] for key, path in files.items() if is_unchanged(path, known.get(key))}
    todo = [(key, path, known.get(key)) for key, path in files.items() if key not in facts]
    with no_pillow_warnings(), closing(spread(inspect_batch, todo)) as batches:
        for key, fact in track(chain.from_iterable(batches), len(todo), "check images"):
            facts[key] = fact
    return facts


def signature(path: str) -> Signature:
    """The file's present state."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


def is_unchanged(path: str, known: ImageFacts | None) -> bool:
    """Whether the known facts still hold."""
    try:
        return known is not None and signature(path) == known.signature
    except OSError:
        return False


def inspect_batch(batch: Sequence[Item]) -> list[tuple[str, ImageFacts]]:
    """`inspect_one` for each."""
    return [inspect_one(item) for item in batch]


def inspect_one(item: Item) -> tuple[str, ImageFacts]:
    """Read and decode one file; the same bytes as before are not decoded again."""
    key, path, known = item
    unreadable = partial(ImageFacts, digest="", height=0, width=0)
    try:
        state = signature(path)
        data = read_file(path)
    except OSError as error:
        return key, unreadable((0, 0, 0, 0), error=f"cannot be read: {error.strerror}")
    except ValueError as error:
        return key, unreadable((0, 0, 0, 0), error=f"cannot be read: {error}")
    digest = hashlib.sha256(data).hexdigest()
    if known is not None and known.digest.startswith(digest):
        return key, replace(known, signature=state)
    try:
        image = decode(data)
    except ValueError as error:
        return key, ImageFacts(state, digest, 0, 0, f"does not decode: {error}")
    if rules(image) > 1:
        digest += f"+{rules(image)}"
    return key, ImageFacts(state, digest, image.height, image.width, "")


def save_facts(path: Path, files: Mapping[str, str], facts: Mapping[str, ImageFacts]) -> None:
    """Keep the facts for the next call, with the files' present change times.

    Making a hard link changes the change time; a file that was otherwise touched since it was read
    is left out, and so read again.
    """
    rows: list[list[str | int]] = [[RULES]]
    for key, fact in sorted(facts.items()):
        now = signature(files[key]) if fact.digest else None
        if now is not None and now[:3] == fact.signature[:3]:
            error = " ".join(fact.error.split())
            rows.append([key, *now, fact.digest, fact.height, fact.width, error])
    write_text(path, "".join("\t".join(map(str, row)) + "\n" for row in rows))


def load_facts(path: Path) -> dict[str, ImageFacts]:
    """The facts that were kept; none from other decoding rules, nor from a damaged file."""
    if not path.is_file():
        return {}
    facts: dict[str, ImageFacts] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if next(rows, None) != [str(RULES)]:
                return {}
            for row in rows:
                key, size, modified, inode, changed, digest, height, width, error = row
                state = int(size), int(modified), int(inode), int(changed)
                facts[key] = ImageFacts(state, digest, int(height), int(width), error)
    except (ValueError, csv.Error):
        return {}
    return facts

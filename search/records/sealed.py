"""Lines of JSON that tell whether they are whole: each has a running number and a checksum.

    {"event": "pause", "trial": "t0003", "time": 1.5, "check": "17-5d0a3c1e"}

The checksum (CRC-32 of the line without its last field, begun with the number) finds a changed
line, the numbers find lines that are missing or out of order. What a killed writer tears off is no
damage: the next line takes the number that the torn one had.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import from_json

MARK = ', "check": "'
SEAL = re.compile(r'(\d{1,18})-([0-9a-f]{8})"}\n?', re.ASCII)
CHUNK = 1000  # lines parsed at once, which is quick


def seal(entry: dict[str, Any], number: int) -> str:
    """The line of an entry, the `number`-th from 1 of its file."""
    body = json.dumps(entry)
    return f'{body[:-1]}{MARK}{number}-{zlib.crc32(body.encode(), number):08x}"}}\n'


class SealedFile:
    """The entries of a file, in order; `damage` says afterwards what was wrong, a line each.

    Lines from before a file's first checksum, as versions before wrote them, are taken as they are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        """The number of the last whole line."""
        self.damage: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The place in the file (from 1) and the entry of each line that can be used."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            numbered = enumerate(file, start=1)
            while chunk := list(itertools.islice(numbered, CHUNK)):
                sound = [(place, line) for place, line in chunk if self.accept(place, line)]
                yield from parse(sound)

    def accept(self, place: int, line: str) -> bool:
        """Whether a line is to be used; if it is not what was written, say so."""
        body, mark, tail = line.rpartition(MARK)
        found = SEAL.fullmatch(tail) if mark else None
        if found is None:
            return self.accept_bare(place, line)
        number = int(found[1])
        if zlib.crc32(f"{body}}}".encode(), number) != int(found[2], 16):
            self.tell(place, "is not as it was written")
            self.count += number == self.count + 1
            return False
        if number <= self.count:
            self.tell(place, "stands there again or in the wrong place")
            return False
        if number > self.count + 1:
            missing = number - self.count - 1
            self.tell(place, f"{missing} line{'s' * (missing > 1)} before it missing or unreadable")
        self.count = number
        return True

    def accept_bare(self, place: int, line: str) -> bool:
        """The same of a line without a checksum: an old one, torn, or one that lost it."""
        if self.count == 0:
            return True
        whole = line.endswith("\n") and isinstance(parsed(line), dict)
        if whole:
            self.tell(place, "has lost its checksum")
        return False

    def tell(self, place: int, what: str) -> None:
        """Note one fault."""
        self.damage.append(f"{self.path}, line {place}: {what}")


def told(damage: Sequence[str], most: int = 3) -> list[str]:
    """The faults in a few lines."""
    more = [f"and {len(damage) - most:,} more faults like these"] if len(damage) > most else []
    return [f"damaged: {line}" for line in [*damage[:most], *more]]


def parse(lines: list[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of lines: all at once, or one by one if one of them is torn."""
    entries: list[Any] = []
    with contextlib.suppress(ValueError):
        entries = from_json(f"[{','.join(line for _, line in lines)}]")
    if len(entries) != len(lines):
        entries = [parsed(line) for _, line in lines]
    for (place, _), entry in zip(lines, entries, strict=True):
        if isinstance(entry, dict):
            yield place, entry


def parsed(line: str) -> Any:
    """The line's JSON value; None where it is no JSON."""
    try:
        return from_json(line)
    except ValueError:
        return None

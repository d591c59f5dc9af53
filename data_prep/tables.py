"""A table of text as people have it -> rows of stripped cells, whatever separates them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.encoding import decode_table
from data_prep.files import read_regular

SEPARATORS = (",", "\t", ";", "|")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")
SAID = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # Excel's own first line
LOOK = 200  # lines that tell the separator
MAX_TABLE = 1 << 27  # bytes: some four million rows, which take 2 GB of memory
MAX_LINE = 131_072  # characters; no cell can be longer for Python's reader
MAX_JOINED = 50  # lines of one cell
END = "\x02"  # a line that shows whether a quote was closed before it


@dataclass(frozen=True)
class Table:
    """The cells of one file as text; nothing in them is trusted."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Without blank lines. A row may have more or fewer cells than the header."""
    encoding: str
    broken: tuple[str, ...] = ()
    """`line 11: <text>` of rows that a quotation mark opens and nothing closes; not in `rows`."""

    def column(self, place: int) -> list[str]:
        """One cell of each row; empty for what a short row lacks."""
        return [row[place] if place < len(row) else "" for row in self.rows]


def is_table(name: str) -> bool:
    """Whether a file is a table by its name."""
    return name.lower().endswith(TABLE_SUFFIXES) and not name.startswith(".")


def read_table(
    path: Path,
    encoding: str | None = None,
    *,
    trust_utf8: bool = False,
    known: Iterable[str] = (),
) -> Table:
    """Read a table; the first line that is not blank is its header.

    `encoding`, `trust_utf8` and `known` are those of `decode_table`. Raises ValueError when the
    file cannot be read, its encoding cannot be told, or it is no table.
    """
    try:
        data = read_regular(path, MAX_TABLE)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a table: {error}") from None
    text, encoding = decode_table(data, path, encoding, trust_utf8, known)
    # Python 3.10's csv refuses NUL; any control character tells a bad name as well
    text = text.replace("\0", "\x01").lstrip("\ufeff")
    lines = list(io.StringIO(text, newline=""))
    said = SAID.fullmatch(lines[0]) if lines else None
    lines = lines[1:] if said else lines
    lines, too_long = without_long(lines)
    separator = said[1] if said else find_separator([x for x in lines[:LOOK] if x.strip()])
    try:
        rows, broken = read_rows(lines, separator)
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from None
    if not rows:
        raise ValueError(f"{path} is empty: its first line must name the columns")
    header, *others = rows
    return Table(path, header, tuple(others), encoding, (*broken, *too_long))


def without_long(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines with blank ones in place of those that are too long, and what stands in these."""
    long = [place for place, line in enumerate(lines) if len(line) > MAX_LINE]
    told = [as_broken(place + 1, lines[place]) for place in long]
    for place in long:
        lines[place] = "\n"
    return lines, told


def as_broken(line: int, text: str) -> str:
    """What is told of a row that cannot be used."""
    return f"line {line}: {' '.join(text[:1000].split())[:80]}"


def find_separator(lines: Sequence[str]) -> str:
    """The one by which most lines have as many cells as the first, two at least.

    A blank is one only where no other is and all lines have as many.
    """

    def fit(separator: str) -> float:
        counts = [len(cells(line, separator)) for line in lines]
        return counts.count(counts[0]) / len(counts) if counts and counts[0] > 1 else 0

    best = max(SEPARATORS, key=fit)
    return " " if not fit(best) and fit(" ") == 1 else best


def read_rows(lines: Sequence[str], separator: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """Rows, the header among them, and what stands in those that a lone quotation mark breaks."""
    if not any('"' in line for line in lines):
        found = map(strip, csv.reader(lines, delimiter=separator))
        return [row for row in found if len(row) > 1 or any(row)], []
    rows: list[tuple[str, ...]] = []
    broken: list[str] = []
    for line, text in records(lines, separator):
        if not text.strip():
            continue
        if is_closed(text, separator):
            rows.append(strip(cells(text, separator)))
        else:
            broken.append(as_broken(line, text))
    return rows, broken


def records(lines: Sequence[str], separator: str) -> Iterator[tuple[int, str]]:
    """The text of each row and the line, counted from 1, that it begins at.

    A quotation mark opens a cell of several lines only where the lines together have as many cells
    as the header and the first alone has fewer; a lone mark must not swallow the rows after it.
    """
    width = len(cells(lines[0], separator))
    place = 0
    while place < len(lines):
        taken = 1
        if not is_closed(lines[place], separator) and lines[place].count(separator) + 1 < width:
            for more in range(2, MAX_JOINED):
                text = "".join(lines[place : place + more])
                if is_closed(text, separator):
                    taken = more if len(cells(text, separator)) == width else 1
                    break
        yield place + 1, "".join(lines[place : place + taken])
        place += taken


def is_closed(text: str, separator: str) -> bool:
    """Whether no cell is still open where the text ends."""
    if '"' not in text:
        return True
    lines = [*io.StringIO(text.rstrip("\r\n"), newline="")]
    lines[-1] += "\n"
    try:
        return list(csv.reader([*lines, END], delimiter=separator))[-1] == [END]
    except csv.Error:  # of several lines together a cell may be too long
        return False


def cells(text: str, separator: str) -> list[str]:
    """The cells of one row, which may have several lines."""
    lines = io.StringIO(text, newline="")
    return next(iter(csv.reader(lines, delimiter=separator)), [])


def strip(row: Sequence[str]) -> tuple[str, ...]:
    """The row without blanks around its cells."""
    return tuple(cell.strip() for cell in row)

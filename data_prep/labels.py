"""The CSV of labels -> id and label of each image. Nothing in the file is trusted."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.files import is_plain_name


@dataclass
class LabelTable:
    """The usable rows of a CSV of labels, and the others by what is wrong with them."""

    labels: dict[str, str] = field(default_factory=dict)
    """id -> label; both are plain file names."""
    rows: int = 0
    bad_ids: list[str] = field(default_factory=list)
    bad_labels: list[str] = field(default_factory=list)
    """`id: label` of rows whose label is empty or no plain file name."""
    repeated_ids: list[str] = field(default_factory=list)
    """Ids of further rows that say the same again."""
    contradictory_ids: list[str] = field(default_factory=list)
    """Ids with two labels. Neither is kept: which one stays must not depend on the rows' order."""


def read_labels(path: Path, label_column: str) -> LabelTable:
    """Read the columns `id` and `label_column`. Raises ValueError when the file has not both."""
    header, *rows = list(read_csv(path)) or [[]]
    for name in ("id", label_column):
        if name not in header:
            raise ValueError(
                f"{path} has no column {name!r} but {', '.join(header[:5]) or 'nothing'}:"
                f" its first line must name id and {label_column}"
            )
    id_place, label_place = header.index("id"), header.index(label_column)
    table = LabelTable()
    contradictory: set[str] = set()
    for row in filter(None, rows):
        table.rows += 1
        row_id = cell(row, id_place)
        label = cell(row, label_place)
        if not is_plain_name(row_id):
            table.bad_ids.append(row_id)
        elif not is_plain_name(label):
            table.bad_labels.append(f"{row_id}: {label}")
        elif row_id not in table.labels:
            table.labels[row_id] = label
        elif table.labels[row_id] == label:
            table.repeated_ids.append(row_id)
        else:
            contradictory.add(row_id)
    for row_id in contradictory:
        del table.labels[row_id]
    table.repeated_ids = [i for i in table.repeated_ids if i not in contradictory]
    table.contradictory_ids = sorted(contradictory)
    return table


def cell(row: Sequence[str], place: int) -> str:
    """One cell of a row; empty for what a short row lacks."""
    return row[place] if place < len(row) else ""


def read_csv(path: Path) -> Iterator[list[str]]:
    """The rows, each cell stripped. Raises ValueError when the file is no CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            # Python 3.10's csv refuses NUL; any control character tells a bad name as well
            rows = csv.reader(line.replace("\0", "\x01") for line in file)
            for row in rows:
                yield [value.strip() for value in row]
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from None

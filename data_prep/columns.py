"""Which column of a table holds the ids and which the labels: by name, by content, or as named."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from data_prep.matching import FileIndex, near_names
from data_prep.tables import Table

ID_NAMES = (
    "id image_id imageid img_id image image_name imagename img filename file_name file files name"
    " path filepath file_path image_path imagepath uuid key"
).split()
LABEL_NAMES = (
    "label labels class classes class_name classname category category_name categories species"
    " breed target y tag class_id label_id category_id"
).split()
ZERO_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "False": 0, "True": 1}
INDEX = re.compile(r"^(|unnamed: ?\d+|index|level_\d+)$")


def plain(name: str) -> str:
    """A column's name as it is compared: `Image ID` as `image_id`."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def place_named(table: Table, name: str, option: str) -> int:
    """Where the column of the name stands. Raises ValueError that names the nearest."""
    if name in table.header:
        return table.header.index(name)
    near = [place for place, column in enumerate(table.header) if plain(column) == plain(name)]
    if len(near) == 1:
        return near[0]
    close = difflib.get_close_matches(name, table.header, n=1)
    columns = ", ".join(table.header[:8]) or "nothing"
    raise ValueError(
        f"{option} {name}: {table.path.name} has the columns {columns}"
        + (f"; did you mean {close[0]}?" if close else "")
    )


def id_place(table: Table, paths: Iterable[str], named: str | None) -> int:
    """Where the ids stand: the column of which most cells mean an image, exactly or nearly.

    Where several fit alike, or none does, it is the one with the most usual name.
    """
    if named is not None:
        return place_named(table, named, "--id-column")
    index = FileIndex(paths)
    cells = [set(table.column(place)) - {""} for place in range(len(table.header))]
    numbers = [sum(index.find(cell) is not None for cell in column) for column in cells]
    if not any(numbers):
        near = near_names(index.paths).keys()
        numbers = [len(near_names(column).keys() & near) for column in cells]

    def rank(place: int) -> tuple[bool, int, int, int]:
        name = table.header[place]
        own = numbers[place] > 0 and not INDEX.match(plain(name))
        return own, numbers[place], -usual(name, ID_NAMES), -place

    return max(range(len(table.header)), key=rank)


def usual(name: str, names: Sequence[str]) -> int:
    """How far back a column's name stands among the usual ones; an index comes last."""
    if INDEX.match(plain(name)):
        return len(names) + 1
    return names.index(plain(name)) if plain(name) in names else len(names)


def label_place(table: Table, ids: int, named: str | None, expected: str | None) -> int:
    """Where the labels stand: as named, as expected, by a usual name, or the only other column.

    Raises ValueError where that leaves none, or several.
    """
    if named is not None:
        return place_named(table, named, "--label-column")
    others = [
        place
        for place, name in enumerate(table.header)
        if place != ids and not INDEX.match(plain(name))
    ]
    if not others:  # a column without a name is one of labels if they come again
        unnamed = [place for place in range(len(table.header)) if place != ids]
        others = [place for place in unnamed if len({*table.column(place)}) < len(table.rows)]
    for place in others:
        if expected is not None and plain(table.header[place]) == plain(expected):
            return place
    known = sorted(others, key=lambda place: usual(table.header[place], LABEL_NAMES))
    if known and (len(known) == 1 or is_label_name(table.header[known[0]])):
        return known[0]
    columns = ", ".join(table.header[:8]) or "nothing"
    found = "several columns that may hold the label" if known else "no column of labels"
    raise ValueError(f"{table.path} has {found} ({columns}): name one with --label-column")


def is_label_name(name: str) -> bool:
    """Whether a column's name says that it holds labels."""
    return plain(name) in LABEL_NAMES


def with_header(table: Table, paths: Iterable[str]) -> Table:
    """The table, where its first line is a row already with a header of numbers above it."""
    index = FileIndex(paths)
    if not any(suffix_or_digit(name) and index.find(name) is not None for name in table.header):
        return table
    names = tuple(f"column {number}" for number in range(1, len(table.header) + 1))
    return Table(table.path, names, (table.header, *table.rows), table.encoding, table.broken)


def with_labels(table: Table, ids: int) -> tuple[Table, int]:
    """The table and where its ids stand.

    Where each row has one 1 among zeros, the name of that column becomes the row's label.
    """
    others = [place for place in range(len(table.header)) if place != ids]
    if len(others) < 2 or any(len(row) != len(table.header) for row in table.rows):
        return table, ids
    values = [[ZERO_ONE.get(row[place]) for place in others] for row in table.rows]
    if not values or any(None in row or row.count(1) != 1 for row in values):
        return table, ids
    rows = tuple(
        (row[ids], table.header[others[value.index(1)]])
        for row, value in zip(table.rows, values, strict=True)
    )
    header = (table.header[ids], f"the columns {table.header[others[0]]} and so on")
    return Table(table.path, header, rows, table.encoding, table.broken), 0


def suffix_or_digit(name: str) -> bool:
    """Whether a cell looks more like an id than like a column's name."""
    return bool(re.search(r"[\d.]", name))

"""The table of labels and the image files -> the label of each image. Nothing in it is trusted.

An id is only compared with the names of files, never made a path of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from data_prep.columns import id_place, label_place, with_header, with_labels
from data_prep.layout import SourceOptions
from data_prep.matching import Matches, match
from data_prep.safe_names import composed, is_line
from data_prep.tables import Table

Rows = Sequence[tuple[str, str]]
"""Id and label of each row."""


@dataclass(frozen=True)
class LabelTable:
    """The rows of a table of labels that name an image, and the others by what is wrong."""

    labels: dict[str, str]
    """Path of the image below its folder -> label, one visible line of text."""
    rows: int
    seen: Counter[str]
    """Label -> rows with it, usable or not."""
    problems: dict[str, list[str]]
    """What is wrong -> the ids, files or rows for which it is; sorted."""
    matches: Matches
    columns: tuple[str, str]
    """Names of the columns of the ids and of the labels."""


def read_labels(
    table: Table, paths: Collection[str], options: SourceOptions, expected: str | None = None
) -> LabelTable:
    """The labels in `table` of the image files `paths`; `expected` is the usual label column.

    Raises ValueError when a column is not there or cannot be told.
    """
    table = with_header(table, paths)
    ids = id_place(table, paths, options.id_column)
    if options.label_column is None and expected not in table.header:
        table, ids = with_labels(table, ids)
    labels = label_place(table, ids, options.label_column, expected)
    rows = list(zip(table.column(ids), map(composed, table.column(labels)), strict=True))
    good = [(name, label) for name, label in rows if is_line(name) and is_line(label)]
    matches = match((name for name, _ in good), paths)
    images, said = by_image(good, matches)
    contradictory = {image for image in images if len(images[image]) > 1}
    missing = {name for name, _ in good if name not in matches.found} - contradictory
    unusable = contradictory | missing
    return LabelTable(
        labels={
            image: next(iter(labels)) for image, labels in images.items() if image not in unusable
        },
        rows=len(rows) + len(table.broken),
        seen=Counter(label for _, label in good),
        problems={
            "broken_rows": list(table.broken),
            "bad_ids": sorted(name for name, _ in rows if not is_line(name)),
            "bad_labels": sorted(
                f"{name}: {label}" for name, label in rows if is_line(name) and not is_line(label)
            ),
            "repeated_ids": sorted(
                name for image in said if image not in contradictory for name in said[image][1:]
            ),
            "contradictory_ids": sorted({name for image in contradictory for name in said[image]}),
            "missing_files": sorted(missing),
            "unlabelled_files": sorted(set(paths) - images.keys()),
        },
        matches=matches,
        columns=(table.header[ids], table.header[labels]),
    )


def by_image(
    rows: Rows, matches: Matches
) -> tuple[dict[str, dict[str, None]], dict[str, list[str]]]:
    """Image (or id without one) -> its different labels; and -> the ids that name it, row by row.

    Of an image with two labels neither is kept: which one stays must not depend on their order.
    """
    labels: dict[str, dict[str, None]] = defaultdict(dict)
    names: dict[str, list[str]] = defaultdict(list)
    for name, label in rows:
        image = matches.found.get(name, name)
        labels[image][label] = None
        names[image].append(name)
    return labels, names

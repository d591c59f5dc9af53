"""The trial table of one or more searches: for a terminal, as csv, JSON or Markdown."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from data_prep.files import printable
from search.console import notice
from search.errors import UsageError
from search.files import strict
from search.records.sealed import told
from search.records.search import Search
from search.records.statuses import SHOWN
from search.records.tables import COLUMNS, trial_row
from search.review.table_layout import Row
from search.review.table_text import markdown, terminal_text

PATH = "path"  # whether a trial trained on images or features: in tables, not in trials.csv
STYLES = ("table", "csv", "json", "md")


def print_trials(
    searches: Sequence[Search],
    *,
    sort: str | None = None,
    top: int | None = None,
    status: str | None = None,
    columns: str | None = None,
    style: str = "table",
) -> None:
    """Print the trial table, as wide as the terminal; a pipe gets all columns."""
    if style != "table":  # there it stands below
        for fault in (fault for search in searches for fault in told(search.damage)):
            notice(fault)
    terminal = sys.stdout.isatty()
    text = format_trials(
        searches,
        sort=sort,
        top=top,
        status=status,
        columns=columns,
        style=style,
        width=shutil.get_terminal_size().columns if terminal else None,
        color=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, errors="backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # `| head` has seen enough, or the terminal is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def format_trials(
    searches: Sequence[Search],
    *,
    sort: str | None = None,
    top: int | None = None,
    status: str | None = None,
    columns: str | None = None,
    style: str = "table",
    width: int | None = None,
    color: bool = False,
) -> str:
    """The trial table as text: best first, or sorted by a column (`-column` the other way round).

    `status` and `columns` are comma-separated; a knob is `lr` or `config/lr`. By default a table
    shows the searched knobs, csv and json every column of trials.csv. `width` is in terminal cells.
    Raises UsageError (one line with the choices) for an unknown style, column or status.
    """
    choose("--format", style, STYLES)
    labels = search_labels(searches)
    rows = [
        row
        for search, label in zip(searches, labels, strict=True)
        for row in rows_of(search, label)
    ]
    for position, row in enumerate(rows):
        row["_position"] = position
    known = list(dict.fromkeys(key for row in rows for key in row if not key.startswith("_")))
    known = known or ["search", *COLUMNS]
    if len(searches) == 1:
        known.remove("search")
    chosen = pick_columns(columns, known)
    shown = filter_status(rows, status)
    shown = sort_rows(shown, sort, searches[0], known)[: top or None]
    if style == "json":
        names = chosen or known
        values = [{name: row.get(name) for name in names} for row in shown]
        return json.dumps(strict(values), indent=1, ensure_ascii=False) + "\n"
    if style == "csv":
        return csv_text(searches, labels, shown, chosen or [name for name in known if name != PATH])
    names = chosen or default_columns(searches, known)
    if style == "md":
        return markdown(searches, shown, names)
    return terminal_text(searches, shown, names, width, color)


def rows_of(search: Search, label: str) -> list[Row]:
    """Each trial's row of trials.csv, with its search and that search's label."""
    return [
        {
            "search": label,
            **trial_row(record, search.metric, search.mode, search.running),
            PATH: record.facts.get("path"),
            "_search": search,
        }
        for record in search.records.values()
    ]


def search_labels(searches: Sequence[Search]) -> list[str]:
    """A short and distinct name for each search: `<task>/<name>`, else its whole path."""
    short = ["/".join(search.path.absolute().parts[-2:]) for search in searches]
    distinct = len(set(short)) == len(short)
    return list(map(printable, short if distinct else [str(search.path) for search in searches]))


def choose(option: str, value: str, choices: Sequence[str]) -> str:
    """The value, if it is among the choices. Raises UsageError that lists them."""
    if value not in choices:
        raise UsageError(f"{option} {value!r}: choose from {', '.join(choices)}")
    return value


def column_name(option: str, name: str, known: Sequence[str]) -> str:
    """The full name of a column; knobs may be named without `config/`."""
    full = f"config/{name}"
    return full if full in known and name not in known else choose(option, name, known)


def pick_columns(columns: str | None, known: Sequence[str]) -> list[str]:
    """The columns asked for, or none."""
    names = [name.strip() for name in (columns or "").split(",") if name.strip()]
    return [column_name("--columns", name, known) for name in names]


def filter_status(rows: list[Row], status: str | None) -> list[Row]:
    """The rows of one status, or of several, comma-separated."""
    wanted = {choose("--status", s.strip(), SHOWN) for s in (status or "").split(",") if s.strip()}
    return [row for row in rows if row["status"] in wanted] if wanted else rows


def sort_rows(rows: list[Row], sort: str | None, search: Search, known: Sequence[str]) -> list[Row]:
    """The rows in order, those without a value last; accuracies fall, all else rises.

    By the metric, equals go as in the choice of the best trial.
    """
    text = sort or search.metric
    name = column_name("--sort", text.removeprefix("-"), known)
    falling = (name == "valid_acc") != text.startswith("-")
    with_value = [row for row in rows if is_value(row.get(name))]
    without = [row for row in rows if not is_value(row.get(name))]
    if text == search.metric:
        with_value.sort(key=tie_key)
    return [*sorted(with_value, key=lambda row: sort_key(row[name]), reverse=falling), *without]


def tie_key(row: Row) -> tuple[float, int]:
    """What decides between trials of equal scores, as in `search.records.best.rank`."""
    loss = row.get("valid_loss")
    return (math.inf if loss is None or loss != loss else float(loss), int(row["trial_id"][1:]))


def is_value(value: Any) -> bool:
    """Neither missing nor not-a-number."""
    return value is not None and value == value


def sort_key(value: Any) -> tuple[bool, float, str]:
    """Numbers before text, so that any two values compare."""
    if isinstance(value, int | float):
        return (False, value, "")
    return (True, 0.0, str(value))


def csv_text(
    searches: Sequence[Search], labels: list[str], shown: list[Row], names: list[str]
) -> str:
    """The rows exactly as trials.csv writes them."""
    import pandas as pd  # here, so that a table need not wait for it

    frames = [
        s.trials.assign(
            search=label, path=[str(r.facts.get("path", "")) for r in s.records.values()]
        )
        for s, label in zip(searches, labels, strict=True)
    ]
    frame = pd.concat(frames) if len(frames) > 1 else frames[0]
    order = [row["_position"] for row in shown]
    return frame[names].take(order).to_csv(index=False, lineterminator="\n")


def default_columns(searches: Sequence[Search], known: Sequence[str]) -> list[str]:
    """What a table shows unless told otherwise: the scores and the searched knobs."""
    metric = searches[0].metric
    other = "valid_loss" if metric == "valid_acc" else "valid_acc"
    searched = dict.fromkeys(f"config/{knob}" for s in searches for knob in s.info.space)
    paths = {record.facts.get("path") for s in searches for record in s.records.values()}
    path = [PATH] if "features" in paths else []
    first = ["search", "trial_id", "status", "epochs", *path, metric, other, "seconds"]
    return [name for name in [*first, *searched] if name in known]

"""The cells of a trial table as text, and how wide its columns are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rich.cells import cell_len

from search.records.best import BASELINE
from search.records.knobs import edge, is_active
from search.records.search import Search
from search.text import compact, duration, plain

HEADERS = {"trial_id": "trial", "seconds": "time", "epochs": "epoch"}
TEXT_COLUMNS = ("search", "trial_id", "status", "path", "error")
DROPPED_FIRST = ("path", "seconds", "best_epoch", "train_loss")  # where the terminal is too narrow

Row = dict[str, Any]
"""One row of trials.csv plus `search` (its label), `_search` (its Search) and `_position`."""


def cell(row: Row, name: str, digits: int = 3) -> str:
    """One value as short text.

    `*` marks the baseline, `~` a trial not told from the best, `!` a value at its range's edge.
    """
    value = row.get(name)
    if name.startswith("config/"):
        return knob_cell(row, name.removeprefix("config/"), digits)
    if value is None or value != value:
        return "-"
    if name == "trial_id":
        return f"{plain(value)}{'*' * (value == BASELINE)}{'~' * is_like_best(row)}"
    if name == "seconds":
        return duration(value)
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else compact(value)
    return plain(value)


def knob_cell(row: Row, name: str, digits: int) -> str:
    """A knob's value; `-` where the configuration has no use for it."""
    value = row.get(f"config/{name}")
    search: Search = row["_search"]
    knob = search.knobs.get(name)
    if value is None:
        return "-"
    if knob is None:
        return plain(compact(value, digits))
    if knob.parent is not None:
        config = search.records[row["trial_id"]].config
        if not is_active(search.knobs, name, config):
            return "-"
    tellable = knob.choices is None or is_best(row)  # of three choices, two are edges
    return plain(compact(value, digits)) + ("!" if tellable and edge(knob, value) else "")


def is_best(row: Row) -> bool:
    """Whether the row is the best trial of its search."""
    best = row["_search"].best
    return best is not None and bool(row["trial_id"] == best["trial_id"])


def is_like_best(row: Row) -> bool:
    """Whether the images of `valid` do not tell the trial from its search's best."""
    comparison = row["_search"].comparison
    return comparison is not None and row["trial_id"] in comparison.alike


@dataclass(frozen=True)
class Grid:
    """The columns of a table, as text; `room` is the least width to which a name is broken."""

    body: dict[str, list[str]]
    names: list[str]
    gap: int
    room: int

    @cached_property
    def heads(self) -> dict[str, list[str]]:
        """Each column's name, in as many lines as it takes."""
        return {name: header_lines(name, self.body[name], self.room) for name in self.names}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Each column's width."""
        return {
            name: max(map(cell_len, {*self.heads[name], *self.body[name]})) for name in self.names
        }

    @property
    def width(self) -> int:
        """The width of the table."""
        return sum(self.sizes.values()) + self.gap * (len(self.names) - 1)

    def head(self) -> list[str]:
        """The lines of the header, names standing on the last one."""
        depth = max((len(lines) for lines in self.heads.values()), default=0)
        padded = {name: [""] * (depth - len(lines)) + lines for name, lines in self.heads.items()}
        return [self.line([padded[name][level] for name in self.names]) for level in range(depth)]

    def line(self, parts: list[str]) -> str:
        """One line of the table: text to the left, numbers to the right."""
        padded = []
        for name, part in zip(self.names, parts, strict=True):
            space = " " * (self.sizes[name] - cell_len(part))
            padded.append(part + space if name in TEXT_COLUMNS else space + part)
        return (" " * self.gap).join(padded).rstrip()

    def has_marks(self) -> bool:
        """Whether any value shown is marked as being at an edge."""
        knobs = (name for name in self.names if name.startswith("config/"))
        return any(part.endswith("!") for name in knobs for part in self.body[name])


def fitting(rows: list[Row], names: list[str], width: int | None) -> Grid:
    """The table at ease if it fits; else tight; else without its least important columns."""
    grid = Grid({name: [cell(row, name) for row in rows] for name in names}, names, gap=2, room=6)
    if width is None or grid.width <= width:
        return grid
    body = {name: [cell(row, name, digits=2) for row in rows] for name in names}
    grid = Grid(body, names, gap=1, room=4)
    metrics = {row["_search"].metric for row in rows}
    spare = [name for name in ("valid_loss", "valid_acc") if name not in metrics]
    searched = [name for name in reversed(names) if name.startswith("config/")]
    for name in [name for name in (*DROPPED_FIRST, *spare, *searched) if name in names]:
        if grid.width <= width:
            break
        grid = replace(grid, names=[kept for kept in grid.names if kept != name])
    return grid


def header_lines(name: str, cells: list[str], room: int) -> list[str]:
    """A column's name, broken at underscores, and within words where its values are narrow."""
    label = plain(HEADERS.get(name, name.removeprefix("config/")))
    room = max([room, *map(cell_len, set(cells))])
    lines: list[str] = []
    for word in label.replace("_", "_\n").split("\n"):
        whole = room >= 6 or len(word.rstrip("_")) < 8
        parts = [word] if whole else [word[i : i + 6] for i in range(0, len(word), 6)]
        for part in parts:
            if lines and cell_len(lines[-1] + part) <= room:
                lines[-1] += part
            else:
                lines.append(part)
    return lines

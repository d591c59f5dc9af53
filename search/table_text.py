"""The trial table as text for a terminal or a Markdown page: columns, marks and notes."""

from __future__ import annotations

import textwrap
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rich.cells import cell_len, set_cell_size

from search.knobs import compact, duration, edge, edge_advice, is_active
from search.trials import BASELINE, Search, shown_status

HEADERS = {"trial_id": "trial", "seconds": "time", "epochs": "epoch"}
TEXT_COLUMNS = ("search", "trial_id", "status", "path", "error")
DROPPED_FIRST = ("path", "seconds", "best_epoch", "train_loss")  # where the terminal is too narrow
REASONS = 5  # distinct errors that are listed below a table
TONES = {"best": "1;32", "baseline": "36", "failed": "31", "diverged": "31", "lost": "2"}
HEAD, ADVICE = "1", "33"

Row = dict[str, Any]
"""One row of trials.csv plus `search` (its label), `_search` (its Search) and `_position`."""


def terminal_text(
    searches: Sequence[Search], rows: list[Row], names: list[str], width: int | None, color: bool
) -> str:
    """Title, table and notes, in at most `width` terminal cells.

    Knobs that do not fit the width are left out and named below.
    """
    grid = fitting(rows, names, width)
    lines = [clipped(title(search), width) for search in searches]
    for line in grid.head():
        lines.append(painted(clipped(line, width), HEAD if color else ""))
    for index, row in enumerate(rows):
        line = grid.line([grid.body[name][index] for name in grid.names])
        lines.append(painted(clipped(line, width), tone(row) if color else ""))
    hidden = [plain(name.removeprefix("config/")) for name in names if name not in grid.names]
    below = notes(searches, rows, grid.has_marks())
    if hidden:
        below.append(f"not shown at this width: {', '.join(hidden)} (name them with --columns)")
    for note in below:
        style = ADVICE if color and note.startswith("! ") else ""
        lines += [painted(line, style) for line in wrapped(note, width)]
    return "\n".join(lines) + "\n"


def markdown(searches: Sequence[Search], rows: list[Row], names: list[str]) -> str:
    """The same as a Markdown table with its notes as a list."""
    labels = [HEADERS.get(name, name.removeprefix("config/")) for name in names]
    rules = ["---" if name in TEXT_COLUMNS else "---:" for name in names]
    table = [
        [escaped(label) for label in labels],
        rules,
        *([escaped(cell(row, name)) for name in names] for row in rows),
    ]
    lines = [f"| {' | '.join(parts)} |" for parts in table]
    marked = any(part.endswith("!") for parts in table[2:] for part in parts)
    listed = [f"- {escaped(note)}" for note in notes(searches, rows, marked)]
    titles = [f"{escaped(title(search))}\n" for search in searches]
    return "\n".join([*titles, *lines, "", *listed]) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\|`*_<>[]":
        text = text.replace(character, f"\\{character}")
    return text


def title(search: Search) -> str:
    """What was searched, and how far it has come."""
    info = search.info
    better = "higher" if search.mode == "max" else "lower"
    state = "running" if search.running else info.get("status", "")
    state = "interrupted" if state == "running" and not search.running else state
    name = "/".join(search.path.absolute().parts[-2:])
    return plain(f"{name}: {search.metric} ({better} is better), {state}")


def notes(searches: Sequence[Search], rows: list[Row], marked: bool) -> list[str]:
    """The lines below the table: counts, best against baseline, marks, errors, advice, caveats."""
    lines: list[str] = []
    for search in searches:
        prefix = f"{search.path.name}: " if len(searches) > 1 else ""
        facts = [counted(search), *compared(search)]
        lines += [plain(prefix + fact) for fact in facts]
    marks = []
    if any(row["trial_id"] == BASELINE for row in rows):
        marks.append("* the baseline")
    if marked:
        marks.append("! at the edge of its range")
    lines += ["; ".join(marks)] if marks else []
    lines += reasons(rows)
    for search in searches:
        if search.best:
            lines += [f"! {plain(a)}" for a in edge_advice(search.knobs, search.best["config"])]
    caveats = dict.fromkeys(str(search.info.get("caveat") or "") for search in searches)
    return lines + [plain(f"note: {caveat}") for caveat in caveats if caveat]


def counted(search: Search) -> str:
    """How many trials there are of each status."""
    counts = Counter(shown_status(record, search.running) for record in search.records.values())
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    planned = search.info.get("num_samples", 0)
    of = f" of {planned}" if planned > len(search.records) else ""
    return f"{len(search.records)}{of} trials{': ' if parts else ''}{parts}"


def compared(search: Search) -> list[str]:
    """The best trial against the baseline."""
    if search.best is None:
        return [f"no trial has a finite {search.metric} yet"]
    value = search.best["metrics"][search.metric]
    text = f"best {search.best['trial_id']}: {search.metric} {value:.4f}"
    text += f" at epoch {search.best['epoch']}"
    baseline = search.records.get(BASELINE)
    epoch = baseline.best_epoch(search.metric, search.mode) if baseline else None
    if baseline is None or epoch is None or search.best["trial_id"] == BASELINE:
        return [text]
    reference = baseline.history[epoch][search.metric]
    return [f"{text}; baseline {reference:.4f} ({value - reference:+.4f})"]


def reasons(rows: list[Row]) -> list[str]:
    """Why the failed trials shown failed, equal errors together."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row["error"], str) and row["error"]:
            label = f"{row['status']}: {plain(row['error'])}"
            groups.setdefault(label, []).append(row["trial_id"])
    lines = []
    for reason, ids in sorted(groups.items(), key=lambda item: -len(item[1]))[:REASONS]:
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        lines.append(f"{', '.join(ids[:3])}{more} {reason}")
    if len(groups) > REASONS:
        lines.append(f"{len(groups) - REASONS} more kinds of error: --columns trial_id,error")
    return lines


def cell(row: Row, name: str, digits: int = 3) -> str:
    """One value as short text: `*` marks the baseline, `!` a value at the edge of its range."""
    value = row.get(name)
    if name.startswith("config/"):
        return knob_cell(row, name.removeprefix("config/"), digits)
    if value is None or value != value:
        return "-"
    if name == "trial_id":
        return plain(value) + ("*" if value == BASELINE else "")
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


def plain(value: Any) -> str:
    """Text on one line without control characters, which could steer the terminal."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(visible, " ".join(text.splitlines())))


def visible(character: str) -> str:
    """The character, or its escape where it is invisible or changes the direction of writing."""
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return character
    return " " if character == "\t" else character.encode("unicode_escape").decode()


def tone(row: Row) -> str:
    """The colour of a row, as ANSI codes; none for an ordinary one."""
    if is_best(row):
        return TONES["best"]
    return TONES["baseline"] if row["trial_id"] == BASELINE else TONES.get(row["status"], "")


def painted(line: str, codes: str) -> str:
    """The line in a colour."""
    return f"\x1b[{codes}m{line}\x1b[0m" if codes and line else line


def clipped(line: str, width: int | None) -> str:
    """The line cut to the width, with an ellipsis."""
    if width is None or cell_len(line) <= width:
        return line
    return set_cell_size(line, width - 1) + "…"


def wrapped(note: str, width: int | None) -> list[str]:
    """A note on as many lines as the width asks for, later ones indented."""
    if width is None or cell_len(note) <= width:
        return [note]
    return textwrap.wrap(note, width, subsequent_indent="  ")

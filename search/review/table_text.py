"""The trial table as text for a terminal or a Markdown page: columns, marks and notes."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from search.records.best import BASELINE
from search.records.knobs import edge_advice
from search.records.sealed import told
from search.records.search import Search
from search.records.statuses import shown_status
from search.review.audit import audited
from search.review.certainty import baseline_gain, confirmed_lines, how_sure
from search.review.table_layout import (
    HEADERS,
    TEXT_COLUMNS,
    Row,
    cell,
    fitting,
    is_best,
    is_like_best,
)
from search.text import TONES, plain

REASONS = 5  # distinct errors that are listed below a table
HEAD, ADVICE = "1", "33"


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
    better = "higher" if search.mode == "max" else "lower"
    state = "running" if search.running else search.info.status
    state = "interrupted" if state == "running" and not search.running else state
    name = "/".join(search.path.absolute().parts[-2:])
    return plain(f"{name}: {search.metric} ({better} is better), {state}")


def notes(searches: Sequence[Search], rows: list[Row], marked: bool) -> list[str]:
    """The lines below the table: counts, best against baseline, marks, errors, advice, caveats."""
    lines: list[str] = []
    for search in searches:
        prefix = f"{search.path.name}: " if len(searches) > 1 else ""
        facts = [counted(search), *compared(search), *how_sure(search)]
        facts += [*confirmed_lines(search), *audited(search)]
        lines += [plain(prefix + fact) for fact in facts]
    marks = []
    if any(row["trial_id"] == BASELINE for row in rows):
        marks.append("* the baseline")
    if any(is_like_best(row) for row in rows):
        marks.append("~ not told from the best by the images of valid")
    if marked:
        marks.append("! at the edge of its range")
    lines += ["; ".join(marks)] if marks else []
    lines += reasons(rows)
    for search in searches:
        if search.best:
            lines += [f"! {plain(a)}" for a in edge_advice(search.knobs, search.best["config"])]
    lines += [f"! {plain(fault)}" for search in searches for fault in told(search.damage)]
    caveats = dict.fromkeys(search.info.caveat for search in searches)
    return lines + [plain(f"note: {caveat}") for caveat in caveats if caveat]


def counted(search: Search) -> str:
    """How many trials there are of each status."""
    counts = Counter(shown_status(record, search.running) for record in search.records.values())
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    planned = search.info.num_samples
    of = f" of {planned}" if planned > len(search.records) else ""
    return f"{len(search.records)}{of} trials{': ' if parts else ''}{parts}"


def compared(search: Search) -> list[str]:
    """The best trial against the baseline."""
    if search.best is None:
        return [f"no trial has a finite {search.metric} yet"]
    value = search.best["metrics"][search.metric]
    text = f"best {search.best['trial_id']}: {search.metric} {value:.4f}"
    text += f" at epoch {search.best['epoch']}"
    if search.baseline is None or search.best["trial_id"] == BASELINE:
        return [text]
    return [f"{text}; baseline {search.baseline.value:.4f} ({baseline_gain(search, value)})"]


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

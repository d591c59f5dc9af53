"""What all figures share: colours, labels, axes, and how many points an eye can tell apart."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from search.records.knobs import is_active
from search.records.ledger import TrialRecord
from search.records.search import Search
from search.records.statuses import Shown, shown_status
from search.text import compact

BEST, REFERENCE, MUTED = "#f76707", "#1c7ed6", "#8c959f"
WHISKER = "#5c6773"
STATUS_COLORS: dict[Shown, str] = {
    "completed": "#0ca678",
    "stopped": MUTED,
    "running": "#1c7ed6",
    "pending": "#74a9cf",
    "lost": "#a98467",
    "failed": "#e03131",
    "diverged": "#ae3ec9",
}
RANK_COLORS = ["#f76707", "#d9852f", "#b79a62", "#97a08b", "#8c959f"]  # best fifth to worst fifth
RANK_NAMES = ("best fifth", "second", "third", "fourth", "worst fifth")
METRIC_LABELS = {
    "valid_acc": "validation accuracy (0 to 1)",
    "valid_loss": "validation log loss (nats)",
}
CURVES = 250  # more learning curves than these no eye can tell apart
LINES = 300  # the same for parallel coordinates
POINTS = 450  # and for the points of one scatter plot


@dataclass(frozen=True)
class Plot:
    """One figure with its title and a sentence that says what is to be seen in it."""

    name: str
    title: str
    figure: go.Figure
    reading: str
    least_width: int = 0
    """Pixels below which it cannot be read: a narrow page lets it scroll sideways."""


def label(text: Any, length: int = 40) -> str:
    """Text for a figure: plotly reads tags, so they are escaped; long names are cut."""
    shown = " ".join(str(text).split())
    return html.escape(shown if len(shown) <= length else shown[: length - 1] + "…", quote=False)


def scored(search: Search) -> list[tuple[TrialRecord, float]]:
    """The trials that have a finite score, best first."""
    return [(scored.record, scored.value) for scored in search.ranking]


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of a ranked list: the first third of them whole, the others evenly spaced."""
    if len(items) <= most:
        return list(items)
    head = most // 3
    picks = np.linspace(head, len(items) - 1, most - head).round().astype(int)
    return [*items[:head], *(items[i] for i in picks)]


def thinning(shown: int, total: int) -> str:
    """What a caption says when not everything is drawn."""
    if shown >= total:
        return ""
    return f" Drawn: {shown} of {total:,}, the best {shown // 3} and every so many of the others."


def hover(search: Search, record: TrialRecord) -> str:
    """What a pointer on a trial shows: status and searched knobs."""
    knobs = [
        f"{label(name)} = {label(compact(record.config[name]))}"
        for name in search.knobs
        if is_active(search.knobs, name, record.config)
    ]
    head = f"<b>{record.trial_id}</b> {shown_status(record, search.running)}"
    return "<br>".join([f"{head}, {record.epochs} epochs", *knobs])


def value_range(
    values: Sequence[float], mode: str, pad: float = 0.06, tail: float = 0.05
) -> list[float]:
    """The axis range that shows the better part of the values; the worst `tail` runs off it."""
    finite = np.array([value for value in values if math.isfinite(value)])
    low, high = float(finite.min()), float(finite.max())
    if len(finite) >= 10:
        if mode == "max":
            low = float(np.quantile(finite, tail, method="higher"))
        else:
            high = float(np.quantile(finite, 1 - tail, method="lower"))
    if low == high:
        low, high = low - 0.01, high + 0.01
    margin = pad * (high - low)
    return [low - margin, high + margin]


def time_unit(seconds: float) -> tuple[float, str]:
    """Seconds in one unit of a readable time axis, and the unit's name."""
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def line(x: Any, y: Any, name: str, color: str, **extra: Any) -> go.Scatter:
    """One line trace."""
    style = {"color": color, **extra.pop("line", {})}
    return go.Scatter(x=x, y=y, name=name, mode="lines", line=style, **extra)

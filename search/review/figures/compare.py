"""Figures that put several searches beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from search.records.metric import oriented
from search.records.search import Search
from search.review.figures.style import (
    BEST,
    METRIC_LABELS,
    MUTED,
    REFERENCE,
    Plot,
    label,
    line,
    time_unit,
    value_range,
)
from search.review.timeline import Timeline, timeline
from search.text import duration


def compare_plots(searches: Sequence[Search], labels: Sequence[str]) -> list[Plot]:
    """The best so far of several searches, over epochs spent and over wall time."""
    spent = [timeline(search) for search in searches]
    return [
        comparison(searches, labels, spent, over_time=False),
        comparison(searches, labels, spent, over_time=True),
    ]


def comparison(
    searches: Sequence[Search], labels: Sequence[str], spent: list[Timeline], over_time: bool
) -> Plot:
    """One line a search: the best value so far."""
    longest = max((float(t.seconds[-1]) for t in spent if len(t.seconds)), default=0.0)
    scale, unit = time_unit(longest)
    figure = go.Figure()
    palette = [BEST, REFERENCE, "#0ca678", "#ae3ec9", "#e03131", "#a98467", MUTED]
    for number, (one, name) in enumerate(zip(spent, labels, strict=True)):
        steps = one.improvements()
        x = one.seconds[steps] / scale if over_time else one.spent[steps]
        color = palette[number % len(palette)]
        style = {"shape": "hv", "width": 2.5}
        figure.add_trace(line(x, one.best[steps], label(name), color, line=style))
    mode, metric = searches[0].mode, searches[0].metric
    finite = [v for t in spent for v in t.best[len(t.best) // 10 :] if math.isfinite(v)]
    x_title = f"time the search ran ({unit})" if over_time else "epochs spent, all trials together"
    figure.update_layout(
        xaxis={"title": x_title, "rangemode": "tozero"},
        yaxis={"title": f"best so far: {METRIC_LABELS[metric]}"},
        height=400,
    )
    if finite:
        figure.update_yaxes(range=value_range(finite, mode, pad=0.1))
    kind = "time" if over_time else "epochs"
    title = "Best over wall time" if over_time else "Best over epochs spent"
    return Plot(f"compare-{kind}", title, figure, lead_reading(spent, labels, mode, over_time))


def lead_reading(spent: list[Timeline], labels: Sequence[str], mode: str, over_time: bool) -> str:
    """Which search is ahead after the budget that all of them have spent."""
    totals = [
        float(t.seconds[-1]) if over_time else float(len(t.seconds))
        for t in spent
        if len(t.seconds)
    ]
    if len(totals) < len(spent):
        return "At least one of the searches has no epoch yet."
    common = min(totals)
    values = []
    for one in spent:
        axis = one.seconds if over_time else one.spent
        values.append(float(one.best[np.searchsorted(axis, common, side="right") - 1]))
    pick = int(np.nanargmax(oriented(np.asarray(values), mode)))
    budget = duration(common) if over_time else f"{common:,.0f} epochs"
    parts = ", ".join(f"{n} {v:.4f}" for n, v in zip(labels, values, strict=True))
    return f"After {budget}, which all have spent: {parts}. {labels[pick]} is ahead."

"""Optimisation history: each trial's score, and the best so far."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from search.records.search import Search
from search.review.figures.style import (
    BEST,
    METRIC_LABELS,
    POINTS,
    REFERENCE,
    STATUS_COLORS,
    Plot,
    hover,
    line,
    scored,
    thinned,
    thinning,
    time_unit,
    value_range,
)
from search.review.timeline import Timeline
from search.text import duration


def history(search: Search, spent: Timeline) -> Plot:
    """Optimisation history: each trial's score when it last reported, and the best so far."""
    trials = [(r, v) for r, v in scored(search) if r.trial_id in spent.last]
    shown = thinned(trials, POINTS)
    scale, unit = time_unit(float(spent.seconds[-1]))
    figure = go.Figure()
    for status, color in STATUS_COLORS.items():
        group = [(r, v) for r, v in shown if r.status == status]
        if group:
            figure.add_scatter(
                x=[spent.last[r.trial_id] / scale for r, _ in group],
                y=[v for _, v in group],
                text=[hover(search, r) for r, _ in group],
                name=status,
                mode="markers",
                marker={"color": color, "size": 7, "opacity": 0.75},
                hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
            )
    steps = spent.improvements()
    x, best = spent.seconds[steps] / scale, spent.best[steps]
    figure.add_trace(line(x, best, "best so far", BEST, line={"shape": "hv", "width": 2.5}))
    if search.baseline is not None:
        ends = [0, float(spent.seconds[-1]) / scale]
        dash = {"dash": "dash", "width": 1.5}
        figure.add_trace(line(ends, [search.baseline.value] * 2, "baseline", REFERENCE, line=dash))
    values = [v for _, v in scored(search)]
    figure.update_layout(
        xaxis={"title": f"time the search ran ({unit})", "rangemode": "tozero"},
        yaxis={
            "title": METRIC_LABELS[search.metric],
            "range": value_range(values, search.mode, tail=0.2),
        },
        height=400,
    )
    reading = history_reading(spent) + thinning(len(shown), len(trials))
    if len(values) >= 10:
        reading += " The worst fifth of the trials runs off the figure."
    return Plot("history", "Optimisation history", figure, reading)


def history_reading(spent: Timeline) -> str:
    """When the best came, and whether more time would have paid."""
    steps = spent.improvements()
    best = spent.best[-1]
    last = int(np.flatnonzero(spent.best == best)[0])
    at, total = float(spent.seconds[last]), float(spent.seconds[-1])
    share = at / total if total else 1.0
    text = f"The best value, {best:.4f}, came after {duration(at)} of {duration(total)}"
    text += f" ({last + 1:,} of {len(spent.seconds):,} epochs), in {max(len(steps) - 1, 1)} steps."
    if share > 0.8:
        return f"{text} It was still improving near the end: a longer search may find more."
    return f"{text} Nothing better came in the last {1 - share:.0%} of the time."

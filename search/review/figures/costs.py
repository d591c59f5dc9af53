"""Where the training time went, by the status of the trials."""

from __future__ import annotations

import plotly.graph_objects as go

from search.records.search import Search
from search.records.statuses import shown_status
from search.review.figures.style import (
    MUTED,
    STATUS_COLORS,
    Plot,
    time_unit,
)


def costs(search: Search) -> Plot:
    """Where the time went: seconds of training by status, and what stopping saved."""
    statuses = [
        s
        for s in STATUS_COLORS
        if any(shown_status(r, search.running) == s for r in search.records.values())
    ]
    groups = {
        s: [r for r in search.records.values() if shown_status(r, search.running) == s]
        for s in statuses
    }
    seconds = {s: sum(r.seconds for r in group) for s, group in groups.items()}
    epochs = {s: sum(r.epochs for r in group) for s, group in groups.items()}
    saved, total = epochs_saved(search), sum(epochs.values())
    rate = sum(seconds.values()) / total if total else 0.0
    scale, unit = time_unit(max([*seconds.values(), saved * rate]))
    longest = max([*seconds.values(), saved * rate]) / scale or 1.0
    names = [f"{s}<br>{counted(len(groups[s]), 'trial')}" for s in statuses] + ["saved by stopping"]
    times = [*seconds.values(), saved * rate]
    notes = [counted(epochs[s], "epoch") for s in statuses]
    colors = [*(STATUS_COLORS[s] for s in statuses), "rgba(140,149,159,0.25)"]
    figure = go.Figure(
        go.Bar(
            y=names,
            x=[time / scale for time in times],
            orientation="h",
            marker={"color": colors, "line": {"color": MUTED, "width": 1}},
            text=[*notes, counted(saved, "epoch")],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.2f} " + unit + "<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis={"title": f"training time of all trials ({unit})", "range": [0, 1.6 * longest]},
        yaxis={"title": "status of the trial", "autorange": "reversed", "automargin": True},
        height=130 + 44 * len(names),
        showlegend=False,
    )
    budget = len(search.records) * search.info.num_epochs
    reading = f"{total:,} epochs trained; early stopping saved {saved:,} of the {budget:,}"
    reading += " that all trials in full would have taken"
    reading += f" ({saved / budget:.0%})." if budget else "."
    lost = sum(seconds.get(s, 0.0) for s in ("failed", "diverged", "lost"))
    if lost:
        share = lost / max(sum(seconds.values()), 1e-9)
        reading += f" {share:.0%} of the time went into trials that failed, diverged or were lost."
    return Plot("costs", "Where the time went", figure, reading)


def counted(count: int, what: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def epochs_saved(search: Search) -> int:
    """Epochs that stopped trials did not train."""
    full = search.info.num_epochs
    stopped = (r for r in search.records.values() if r.status == "stopped")
    return sum(max(0, full - record.epochs) for record in stopped)

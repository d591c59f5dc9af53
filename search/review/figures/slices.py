"""One searched knob against the score."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from search.records.knobs import Knob, is_active, position
from search.records.ledger import TrialRecord
from search.records.search import Search
from search.review.figures.style import (
    BEST,
    METRIC_LABELS,
    POINTS,
    Plot,
    label,
    scored,
    thinned,
    value_range,
)
from search.text import compact


def slice_plot(search: Search, name: str) -> Plot:
    """One knob against the score; the colour says how many epochs a trial was given."""
    knob = search.knobs[name]
    trials = [(r, v) for r, v in scored(search) if is_active(search.knobs, name, r.config)]
    shown = thinned(trials, POINTS)
    values = [v for _, v in trials]
    figure = go.Figure()
    x = [slice_x(knob, record, index) for index, (record, _) in enumerate(shown)]
    figure.add_scatter(
        x=x,
        y=[round(value, 5) for _, value in shown],
        text=[
            f"{r.trial_id}, {r.epochs} epochs: {label(compact(r.config[name]))}" for r, _ in shown
        ],
        mode="markers",
        marker={
            "color": [record.epochs for record, _ in shown],
            "colorscale": [[0, "#b8c0c8"], [1, "#0ca678"]],
            "cmin": 0,
            "cmax": search.info.num_epochs,
            "size": 7,
            "opacity": 0.8,
            "showscale": True,
            "colorbar": {"title": {"text": "epochs"}, "thickness": 8, "len": 0.9},
        },
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
        showlegend=False,
    )
    if trials:
        figure.add_scatter(
            x=x[:1],
            y=[values[0]],
            mode="markers",
            marker={"symbol": "star", "size": 14, "color": BEST},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.update_yaxes(range=value_range(values, search.mode))
    figure.update_layout(
        xaxis=slice_axis(knob),
        yaxis={"title": METRIC_LABELS[search.metric]},
        height=300,
        showlegend=False,
    )
    return Plot(f"slice-{name}", str(name), figure, slice_reading(knob, trials))


def slice_x(knob: Knob, record: TrialRecord, index: int) -> float:
    """The place on the axis; choices are spread a little, so that points do not hide each other."""
    value = record.config[knob.name]
    if knob.choices is None:
        return float(value)
    spread = (index * 0.618034 % 1 - 0.5) * 0.5
    at = position(knob, value) * len(knob.choices) - 0.5
    return round((at if math.isfinite(at) else -1) + spread, 3)


def slice_axis(knob: Knob) -> dict[str, Any]:
    """The horizontal axis of a slice plot: logarithmic where the range is."""
    title = f"{label(knob.name)}{' (log scale)' if knob.log else ''}"
    if knob.choices is None and knob.log:
        tens = decades(knob)
        texts = [compact(ten, 2) for ten in tens]
        return {"title": title, "type": "log", "tickvals": tens, "ticktext": texts}
    if knob.choices is None:
        return {"title": title, "nticks": 6}
    ticks = [label(compact(choice), 14) for choice in knob.choices]
    ends = [-0.5, len(ticks) - 0.5]
    return {"title": title, "tickvals": list(range(len(ticks))), "ticktext": ticks, "range": ends}


def decades(knob: Knob) -> list[float]:
    """Powers of ten in a logarithmic range, and its ends where they are few."""
    first, last = math.ceil(math.log10(knob.low)), math.floor(math.log10(knob.high))
    tens: list[float] = [10.0**power for power in range(first, last + 1)]
    ends = [knob.low, knob.high] if len(tens) < 3 else []
    apart = [e for e in ends if all(abs(math.log10(e / ten)) > 0.2 for ten in tens)]
    return sorted([*tens, *apart])


def slice_reading(knob: Knob, trials: list[tuple[TrialRecord, float]]) -> str:
    """Where the best tenth of the trials lies."""
    best = [record.config[knob.name] for record, _ in trials[: max(3, len(trials) // 10)]]
    if not best:
        return "No scored trial has used it."
    if knob.choices is None:
        low, high = compact(min(best)), compact(max(best))
        return f"Star: the best trial. The best {len(best)} lie between {low} and {high}."
    counts = {str(c): sum(c == value for value in best) for c in knob.choices}
    parts = ", ".join(f"{compact(c)}: {n}" for c, n in counts.items() if n)
    return f"Star: the best trial. Among the best {len(best)}, {parts}."

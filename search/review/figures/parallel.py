"""Parallel coordinates: one line a trial through its knobs to its score."""

from __future__ import annotations

import plotly.graph_objects as go

from search.records.knobs import Knob, is_active, position
from search.records.search import Search
from search.review.figures.style import (
    LINES,
    MUTED,
    RANK_COLORS,
    RANK_NAMES,
    Plot,
    label,
    scored,
    thinned,
    thinning,
    value_range,
)
from search.text import compact


def parallel(search: Search) -> Plot:
    """Parallel coordinates: one line a trial through its knobs to its score."""
    trials = scored(search)
    shown = thinned(trials, LINES)
    knobs = list(search.knobs.values())
    order = {record.trial_id: rank for rank, (record, _) in enumerate(trials)}
    low, high = value_range([value for _, value in trials], search.mode, pad=0.0)
    figure = go.Figure()
    for fifth in reversed(range(len(RANK_COLORS))):
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for record, value in shown:
            if order[record.trial_id] * len(RANK_COLORS) // len(trials) != fifth:
                continue
            score = min(max((value - low) / (high - low), 0.0), 1.0)
            for axis, knob in enumerate(knobs):
                if is_active(search.knobs, knob.name, record.config):
                    x.append(axis)
                    y.append(round(position(knob, record.config[knob.name]), 4))
                    text.append(
                        f"{record.trial_id}: {label(knob.name)} = "
                        f"{label(compact(record.config[knob.name]))}"
                    )
            x += [len(knobs), None]
            y += [round(score, 4), None]
            text += [f"{record.trial_id}: {search.metric} = {value:.4f}", ""]
        if x:
            figure.add_scatter(
                x=x,
                y=y,
                text=text,
                name=RANK_NAMES[fifth],
                mode="lines",
                line={"color": RANK_COLORS[fifth], "width": 1.6 if fifth == 0 else 1},
                opacity=(0.9, 0.5, 0.35, 0.3, 0.25)[fifth],
                hovertemplate="%{text}<extra></extra>",
            )
    dress_axes(figure, search, knobs, low, high)
    best_fifth = trials[: max(1, len(trials) // 5)]
    reading = f"Orange lines are the best {len(best_fifth)} trials; where they run together, the"
    reading += " value matters. A line skips a knob its configuration has no use for."
    reading += thinning(len(shown), len(trials))
    width = 72 * (len(knobs) + 1)
    return Plot("parallel", "Parallel coordinates", figure, reading, width)


def dress_axes(
    figure: go.Figure, search: Search, knobs: list[Knob], low: float, high: float
) -> None:
    """Vertical axes with their names above, and the ends or choices of their ranges beside them."""
    names = [label(knob.name, 18) for knob in knobs] + [search.metric]
    for axis in range(len(names)):
        figure.add_vline(x=axis, line={"width": 1, "color": MUTED}, layer="below")
    ticks = [
        (i, position(k, c), label(compact(c), 12))
        for i, k in enumerate(knobs)
        for c in (k.choices or (k.low, k.high))
    ]
    ticks += [(len(knobs), 0.0, f"{low:.3f}"), (len(knobs), 1.0, f"{high:.3f}")]
    for x, y, text in ticks:
        place = {"xanchor": "left", "xshift": 3, "yshift": 7 if y < 0.99 else -7}
        figure.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": 10}, **place)
    figure.update_layout(
        xaxis={
            "title": "searched knobs, and the score",
            "automargin": True,
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [-0.15, len(names) - 0.5],
            "showgrid": False,
            "zeroline": False,
        },
        yaxis={
            "title": "position in its range (0 to 1)",
            "range": [-0.04, 1.04],
            "zeroline": False,
            "showgrid": False,
        },
        height=460,
        hovermode="closest",
    )

"""Figures of the searched knobs: parallel coordinates, importance, and one slice a knob."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from search.importance import Importance
from search.knobs import Knob, compact, is_active, position
from search.ledger import TrialRecord
from search.plots import (
    BEST,
    LINES,
    METRIC_LABELS,
    MUTED,
    POINTS,
    RANK_COLORS,
    RANK_NAMES,
    WHISKER,
    Plot,
    label,
    scored,
    thinned,
    thinning,
    value_range,
)
from search.trials import Search


def axis_position(knob: Knob, value: Any) -> float:
    """Where a value stands on its parallel axis, 0 to 1."""
    if knob.choices is not None:
        places = [i for i, choice in enumerate(knob.choices) if choice == value]
        return (places[0] + 0.5) / len(knob.choices) if places else math.nan
    if knob.low == knob.high:
        return 0.5
    return min(max(position(knob, value), 0.0), 1.0)


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
                    y.append(round(axis_position(knob, record.config[knob.name]), 4))
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
        (i, axis_position(k, c), label(compact(c), 12))
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


def importance(found: list[Importance]) -> Plot:
    """Bars of each knob's importance with the spread over bootstrap samples."""
    last = found[-1]
    names = sorted(last.mean, key=last.mean.__getitem__)
    figure = go.Figure()
    for item, color in zip(found, ("#8ab6dd", BEST)[-len(found) :], strict=True):
        mean = np.array([item.mean[name] for name in names])
        figure.add_bar(
            y=list(range(len(names))),
            customdata=[label(name) for name in names],
            x=mean,
            orientation="h",
            name=f"at epoch {item.epoch} ({item.trials} trials)",
            marker={"color": color},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.maximum([item.high[name] for name in names] - mean, 0),
                "arrayminus": np.maximum(mean - [item.low[name] for name in names], 0),
                "thickness": 1.5,
                "color": WHISKER,
            },
            hovertemplate="%{customdata}: %{x:.2f}<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(
        xaxis={
            "title": "importance (share of the variance, 0 to 1)",
            "rangemode": "tozero",
        },
        yaxis={
            "title": "searched knob",
            "tickvals": list(range(len(names))),
            "ticktext": [label(name, 24) for name in names],
            "automargin": True,
        },
        barmode="group",
        showlegend=True,
        legend={"traceorder": "reversed"},
        height=150 + 28 * len(names) * len(found),
    )
    return Plot("importance", "Importance of each knob", figure, importance_reading(found))


def importance_reading(found: list[Importance]) -> str:
    """Which knobs matter, and how sure that is."""
    last = found[-1]
    leading = max(last.mean, key=last.mean.__getitem__)
    sure = [n for n in last.mean if n != leading and last.high[n] < last.low[leading]]
    others = len(last.mean) - 1
    trust = f"A forest fitted to the knobs explains {max(last.skill, 0):.0%} of the ranks of trials"
    trust += f" it has not seen (epoch {last.epoch}, {last.trials} trials); the importance is the"
    trust += " share that shuffling the knob loses."
    how = " Early-stopped trials count, each at the epoch compared; diverged ones as worst."
    how += " Whiskers: 10 to 90 % of bootstrap samples."
    if last.skill <= 0.05:
        return f"Too few trials to tell which knob matters. {trust}{how}"
    if len(sure) == others:
        return f"{leading} matters most, beyond the uncertainty. {trust}{how}"
    count = others - len(sure)
    overlapping = "those of another" if count == 1 else f"those of {count} others"
    return f"{leading} leads, but its whiskers overlap {overlapping}. {trust}{how}"


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
            "cmax": search.info["num_epochs"],
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
    places = [i for i, choice in enumerate(knob.choices) if choice == value]
    return round((places[0] if places else -1) + spread, 3)


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


def slice_hover(record: TrialRecord, name: str) -> str:
    """What a pointer on a point of a slice plot shows."""
    return f"{record.trial_id}, {record.epochs} epochs: {label(compact(record.config[name]))}"

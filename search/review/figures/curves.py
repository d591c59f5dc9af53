"""The learning curves of a search's trials, coloured by rank."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from search.records.best import BASELINE
from search.records.ledger import TrialRecord
from search.records.search import Search
from search.review.figures.style import (
    BEST,
    CURVES,
    METRIC_LABELS,
    MUTED,
    RANK_COLORS,
    RANK_NAMES,
    REFERENCE,
    Plot,
    line,
    scored,
    thinned,
    thinning,
    value_range,
)
from search.review.importance import rungs_of


def curves(search: Search) -> Plot:
    """Learning curves coloured by rank, with the epochs at which trials were compared."""
    trials = [record for record, _ in scored(search)]
    shown = thinned(trials, CURVES)
    order = {record.trial_id: rank for rank, record in enumerate(trials)}
    figure = go.Figure()
    for fifth in reversed(range(len(RANK_COLORS))):
        group = [r for r in shown if order[r.trial_id] * len(RANK_COLORS) // len(trials) == fifth]
        if group:
            add_curves(figure, search, group, fifth)
    special = {trials[0].trial_id: ("best", BEST, "solid")}
    special.setdefault(BASELINE, ("baseline", REFERENCE, "dash"))
    for trial_id, (name, color, dash) in special.items():
        record = search.records.get(trial_id)
        if record is not None and record.history:
            epochs = sorted(record.history)
            y = [record.history[epoch].get(search.metric) for epoch in epochs]
            style = {"width": 3, "dash": dash}
            figure.add_trace(line(epochs, y, name, color, line=style))
    for epoch in rungs_of(search):
        figure.add_vline(x=epoch, line={"dash": "dot", "width": 1, "color": MUTED})
    values = [m.get(search.metric, math.nan) for r in shown for m in r.history.values()]
    figure.update_layout(
        xaxis={"title": "epoch", "rangemode": "tozero"},
        yaxis={"title": METRIC_LABELS[search.metric], "range": value_range(values, search.mode)},
        height=420,
    )
    return Plot("curves", "Learning curves", figure, curves_reading(search, len(shown), trials))


def add_curves(figure: go.Figure, search: Search, group: list[TrialRecord], fifth: int) -> None:
    """The curves of one fifth of the ranking as a single trace."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for record in group:
        points: list[tuple[float, float]] = [
            (epoch, m.get(search.metric, math.nan)) for epoch, m in record.history.items()
        ]
        if len(points) == 1:  # a dash, since a line through one point is not to be seen
            points = [(points[0][0] + side, points[0][1]) for side in (-0.08, 0.08)]
        for epoch, value in sorted(points):
            x.append(epoch)
            y.append(round(value, 5) if math.isfinite(value) else None)
            text.append(f"{record.trial_id}, epoch {round(epoch)}")
        x.append(None)
        y.append(None)
        text.append("")
    figure.add_scatter(
        x=x,
        y=y,
        text=text,
        name=RANK_NAMES[fifth],
        mode="lines",
        line={"color": RANK_COLORS[fifth], "width": 1.2},
        opacity=0.85 - 0.12 * fifth,
        hovertemplate="%{text}: %{y:.4f}<extra></extra>",
    )


def curves_reading(search: Search, shown: int, trials: list[TrialRecord]) -> str:
    """Where trials were stopped, and whether the best had finished learning."""
    rungs = rungs_of(search)
    text = "No trial was stopped early."
    if rungs:
        many = "s" if len(rungs) > 1 else ""
        numbers = ", ".join(map(str, rungs))
        text = f"Dotted line{many}: epoch{many} {numbers}, where only the better go on."
    best = trials[0]
    epoch = best.best_epoch(search.metric, search.mode)
    if epoch == search.info.num_epochs:
        text += " The best trial was still improving at its last epoch: more epochs may help."
    else:
        text += f" The best trial peaked at epoch {epoch} of {best.epochs}."
    return text + thinning(shown, len(trials))

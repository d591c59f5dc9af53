"""The figures of a search, as plotly figures with a one-line reading: for the report and notebooks.

from search import load
load("results/digits/first").figures["history"].show()
"""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from search.figures_knobs import importance, parallel, slice_plot
from search.importance import importances, rungs_of
from search.knobs import duration
from search.ledger import TrialRecord
from search.plots import (
    BEST,
    CURVES,
    METRIC_LABELS,
    MUTED,
    POINTS,
    RANK_COLORS,
    RANK_NAMES,
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
from search.timeline import Timeline, timeline
from search.trials import BASELINE, Search, shown_status


def search_plots(search: Search) -> list[Plot]:
    """Every figure of one search; a search without scores has fewer."""
    if search.best is None:
        return [costs(search)] if search.records else []
    spent = timeline(search)
    found = importances(search)
    plots = [history(search, spent), curves(search), parallel(search)]
    if found and search.knobs:
        plots.append(importance(found))
    return [*plots, costs(search), *(slice_plot(search, name) for name in search.knobs)]


def baseline_value(search: Search) -> float | None:
    """The baseline's best value, where it has one."""
    record = search.records.get(BASELINE)
    epoch = record.best_epoch(search.metric, search.mode) if record else None
    return None if record is None or epoch is None else record.history[epoch][search.metric]


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
    reference = baseline_value(search)
    if reference is not None:
        ends = [0, float(spent.seconds[-1]) / scale]
        dash = {"dash": "dash", "width": 1.5}
        figure.add_trace(line(ends, [reference] * 2, "baseline", REFERENCE, line=dash))
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
    if epoch == search.info["num_epochs"]:
        text += " The best trial was still improving at its last epoch: more epochs may help."
    else:
        text += f" The best trial peaked at epoch {epoch} of {best.epochs}."
    return text + thinning(shown, len(trials))


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
    budget = len(search.records) * search.info["num_epochs"]
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
    full = int(search.info["num_epochs"])
    stopped = (r for r in search.records.values() if r.status == "stopped")
    return sum(max(0, full - record.epochs) for record in stopped)

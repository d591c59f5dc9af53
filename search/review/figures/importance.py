"""Bars of each knob's importance, with its uncertainty."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from search.review.figures.style import (
    BEST,
    WHISKER,
    Plot,
    label,
)
from search.review.importance import Importance


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

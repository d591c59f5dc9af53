"""Figures of the chosen model's verdicts on `valid`: per class, confusions, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from search.review.figures.style import BEST, MUTED, REFERENCE, WHISKER, Plot, label
from search.review.predictions import Verdicts

ALL_CLASSES = 30  # up to so many classes a figure shows all of them
EXTREMES = (20, 8)  # with more: so many of the worst, so many of the best
COUNTED = 12  # up to so many classes the cells of the confusion matrix hold numbers


def model_plots(verdicts: Verdicts) -> list[Plot]:
    """The figures; the confusion matrix only where it can be read."""
    plots = [per_class(verdicts), reliability(verdicts)]
    if len(verdicts.classes) <= ALL_CLASSES:
        plots.insert(1, confusion(verdicts))
    return plots


def per_class(verdicts: Verdicts) -> Plot:
    """Accuracy of each class with its 95 % interval (Wilson), the worst above."""
    totals = np.bincount(verdicts.labels, minlength=len(verdicts.classes))
    hits = np.bincount(verdicts.labels[verdicts.right], minlength=len(verdicts.classes))
    present = np.flatnonzero(totals)
    order = present[np.argsort(hits[present] / totals[present], kind="stable")]
    shown = order
    if len(order) > ALL_CLASSES:
        shown = np.concatenate([order[: EXTREMES[0]], order[-EXTREMES[1] :]])
    rate = hits[shown] / totals[shown]
    low, high = wilson(hits[shown], totals[shown])
    figure = go.Figure(
        go.Bar(
            y=list(range(len(shown))),
            hovertext=[label(verdicts.classes[i]) for i in shown],
            x=rate,
            orientation="h",
            marker={"color": [BEST if r < verdicts.right.mean() else "#0ca678" for r in rate]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": high - rate,
                "arrayminus": rate - low,
                "thickness": 1.5,
                "color": WHISKER,
            },
            customdata=totals[shown],
            hovertemplate="%{hovertext}: %{x:.3f} of %{customdata} images<extra></extra>",
        )
    )
    mean = float(verdicts.right.mean())
    figure.add_vline(x=mean, line={"dash": "dash", "width": 1.5, "color": REFERENCE})
    figure.update_layout(
        xaxis={"title": "accuracy on valid (0 to 1)", "range": [0, 1.02]},
        yaxis=class_axis("class", [verdicts.classes[i] for i in shown]) | {"autorange": "reversed"},
        height=110 + 20 * len(shown),
        showlegend=False,
    )
    worst = verdicts.classes[order[0]]
    text = f"Dashed: all {len(verdicts.ids):,} images, {mean:.4f}. Weakest class: {worst}"
    text += f" ({hits[order[0]]} of {totals[order[0]]}). Whiskers: 95 % intervals."
    if len(shown) < len(order):
        text += f" Shown: the {EXTREMES[0]} worst and {EXTREMES[1]} best of {len(order)} classes."
    return Plot("per-class", "Accuracy of each class", figure, text)


def class_axis(title: str, names: Sequence[str]) -> dict[str, Any]:
    """An axis of class names by position: cut names may be equal, and some look like numbers."""
    return {
        "title": title,
        "tickvals": list(range(len(names))),
        "ticktext": [label(name, 24) for name in names],
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }


def wilson(hits: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    share = hits / totals
    centre = (share + z**2 / (2 * totals)) / (1 + z**2 / totals)
    root = np.sqrt(share * (1 - share) / totals + z**2 / (4 * totals**2))
    half = z / (1 + z**2 / totals) * root
    return np.minimum(centre - half, share), np.maximum(centre + half, share)


def confusion(verdicts: Verdicts) -> Plot:
    """Which class is taken for which, as shares of the true class."""
    counts = verdicts.confusion()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [label(name) for name in verdicts.classes]
    hovered = [[f"{true} called {called}" for called in names] for true in names]
    few = len(names) <= COUNTED
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            text=np.where(counts, counts.astype(str), ""),
            hovertext=hovered,
            colorscale=[[0, "rgba(140,149,159,0.08)"], [0.05, "#f9c9a2"], [1, BEST]],
            zmin=0,
            zmax=1,
            texttemplate="%{text}" if few else None,
            colorbar={"title": {"text": "share"}, "thickness": 10},
            hovertemplate="%{hovertext}: %{z:.1%} of the images<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis=class_axis("predicted class", verdicts.classes) | {"tickangle": -45},
        yaxis=class_axis("true class", verdicts.classes) | {"autorange": "reversed"},
        showlegend=False,
        height=220 + 22 * len(names),
    )
    pairs = verdicts.confused_pairs(1)
    text = "Every validation image is right."
    if pairs:
        true, called, count, total = pairs[0]
        text = f"Rows are the truth. Most often confused: {true} taken for {called}"
        text += f" ({count} of {total} images)."
    return Plot("confusion", "Confusion matrix", figure, text)


def reliability(verdicts: Verdicts) -> Plot:
    """Does a confidence of 0.8 mean that 80 % are right?"""
    sure, right, counts = (np.array(column) for column in zip(*verdicts.reliability(), strict=True))
    figure = go.Figure()
    figure.add_bar(
        x=sure,
        y=counts / counts.sum(),
        width=0.06,
        name="share of the images",
        marker={"color": MUTED},
        opacity=0.35,
        customdata=counts,
        hovertemplate="%{customdata} images<extra></extra>",
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="perfectly calibrated",
        line={"dash": "dash", "color": REFERENCE, "width": 1.5},
    )
    figure.add_scatter(
        x=sure,
        y=right,
        mode="lines+markers",
        name="this model",
        line={"color": BEST, "width": 2.5},
        marker={"size": 8},
        hovertemplate="confidence %{x:.2f}: %{y:.2f} are right<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": "confidence: probability of the predicted class", "range": [0, 1.02]},
        yaxis={"title": "share that is right (0 to 1)", "range": [0, 1.05]},
        height=380,
    )
    gap = float(verdicts.confidence.mean() - verdicts.right.mean())
    leaning = "over-confident" if gap > 0 else "under-confident"
    text = f"Expected calibration error {verdicts.calibration_error:.3f}; on the whole the model is"
    text += f" {leaning} by {abs(gap):.3f}. Below the dashed line it is too sure of itself."
    return Plot("reliability", "Reliability diagram", figure, text)

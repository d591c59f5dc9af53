"""The figure of the steps from the baseline to the submission, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from search.review.figures.style import BEST, METRIC_LABELS, MUTED, WHISKER, Plot, label


def ladder(steps: Sequence[Mapping[str, Any]], metric: str) -> Plot | None:
    """`steps` as metadata.json has them; None where fewer than two are measured."""
    known = [step for step in steps if step.get("value") is not None]
    if len(known) < 2:
        return None
    figure = go.Figure(
        go.Scatter(
            x=[step["value"] for step in known],
            y=[label(step["name"]) for step in known],
            mode="markers+text",
            text=[gained(step) for step in known],
            textposition="top center",
            cliponaxis=False,
            marker={"size": 11, "color": [BEST if s["applied"] else MUTED for s in known]},
            error_x={
                "type": "data",
                "array": [step.get("standard_error") or 0 for step in known],
                "thickness": 1.5,
                "color": WHISKER,
            },
            hovertext=[label(step["what"], 120) for step in known],
            hovertemplate="%{y}: %{x:.4f}<br>%{hovertext}<extra></extra>",
        )
    )
    named = METRIC_LABELS[metric].replace("validation ", "")
    figure.update_layout(
        xaxis={"title": f"{named}, out of fold"},
        yaxis={"autorange": "reversed", "automargin": True},
        height=130 + 62 * len(known),
        showlegend=False,
    )
    images = max(step["images"] for step in known)
    text = f"On {images:,} images, each step judged on folds that it was not fitted to; numbers are"
    text += " gains over the step before with their standard errors, paired by images (whiskers)."
    left_out = [step["name"] for step in known if not step["applied"]]
    text += f" Grey, not applied: {', '.join(left_out)}." if left_out else ""
    return Plot("ladder", "From the baseline to the submission", figure, text, least_width=520)


def gained(step: Mapping[str, Any]) -> str:
    """The gain with its error; nothing of the first step."""
    if step.get("gain") is None:
        return ""
    return f"{step['gain']:+.4f} ± {step['standard_error']:.4f}"

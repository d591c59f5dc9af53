"""One self-contained HTML page about a search: opens from disk, without a network, and prints."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from plotly.offline import get_plotlyjs

from data_prep.files import clear_parts, write_text
from search.console import notice
from search.files import strict
from search.records.best import BASELINE
from search.records.search import Search
from search.review.certainty import confirmed_table
from search.review.figures.compare import compare_plots
from search.review.figures.ladder import ladder
from search.review.figures.overview import search_plots
from search.review.figures.predictions import model_plots
from search.review.figures.style import Plot
from search.review.predictions import Verdicts, load_verdicts, thumbnail
from search.review.summary import (
    cards,
    caveats,
    contrast,
    facts,
    ladder_steps,
    retrained,
    warnings,
)
from search.review.table import rows_of, search_labels, sort_rows
from search.review.table_layout import is_like_best

FIRST_ROWS = 100  # of the trial table, until "show all" is pressed


def write_report(searches: Sequence[Search], out: Path) -> Path:
    """Write the page of one search, or one that compares several; the file's path.

    Raises ValueError for searches of different metrics, which nothing can compare.
    """
    metrics = {search.metric for search in searches}
    if len(metrics) > 1:
        raise ValueError(
            f"searches of different metrics ({', '.join(sorted(metrics))}) do not compare"
        )
    page = single_page(searches[0]) if len(searches) == 1 else compared_page(searches)
    environment = Environment(
        loader=PackageLoader("search.review", "templates"),
        autoescape=select_autoescape(default=True),
    )
    html = environment.get_template("report.html").render(
        **page,
        plotly=bundle(),
        first_rows=FIRST_ROWS,
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    clear_parts(out.parent, out.name)
    write_text(out, html)
    return out


def bundle() -> str:
    """plotly's JavaScript, gzipped and in base64: 2 MB instead of 5; the browser unpacks it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def embedded(value: Any) -> str:
    """JSON that can stand inside a script element whatever text is in it."""
    text = json.dumps(strict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def specification(plot: Plot) -> dict[str, Any]:
    """A figure for plotly.js, without plotly.py's template: the page has its own colours."""
    figure = json.loads(plot.figure.to_json())
    figure["layout"].pop("template", None)
    return {"name": plot.name, "data": figure["data"], "layout": figure["layout"]}


@dataclass(frozen=True)
class Section:
    """A heading with figures under it; `small` ones stand side by side."""

    title: str
    plots: list[Plot]
    small: bool = False


def single_page(search: Search) -> dict[str, Any]:
    """What the template shows of one search."""
    plots = search_plots(search)
    slices = [plot for plot in plots if plot.name.startswith("slice-")]
    wide = [plot for plot in plots if plot not in slices]
    verdicts, damage = verdicts_or_why(search)
    sections = [
        Section("The search", wide),
        Section("Each knob against the score", slices, small=True),
    ]
    model = Section("The chosen model on valid", model_plots(verdicts) if verdicts else [])
    steps = ladder_plots(search)
    label = search_labels([search])[0]
    return {
        "title": f"{label}: {search.info.task} search",
        "cards": cards(search),
        "facts": [facts(search)],
        "caveats": caveats([search]),
        "warnings": [*warnings(search), *damage],
        "confirmed": confirmed_table(search),
        "rule": search.confirmed.rule if search.confirmed else "",
        "contrast": contrast(search),
        "sections": [section for section in sections if section.plots],
        "model": model if verdicts else None,
        "pairs": verdicts.confused_pairs() if verdicts else [],
        "wrong": wrong_images(search, verdicts) if verdicts else [],
        "retrained": retrained(search),
        "ladder": steps,
        "specs": embedded([specification(p) for p in [*plots, *steps, *model.plots]]),
        "table": embedded(table([search])),
        "summaries": [],
    }


def ladder_plots(search: Search) -> list[Plot]:
    """The figure of what each step was worth, where a confirmation has measured it."""
    plot = ladder(ladder_steps(search), search.metric)
    return [] if plot is None else [plot]


def verdicts_or_why(search: Search) -> tuple[Verdicts | None, list[str]]:
    """What the chosen model says of `valid`; where its file is damaged, none and a line on that."""
    try:
        return load_verdicts(search), []
    except ValueError as error:
        line = f"{error}; the report goes without its predictions"
        notice(line)
        return None, [line]


def compared_page(searches: Sequence[Search]) -> dict[str, Any]:
    """What the template shows of several searches beside each other."""
    labels = search_labels(searches)
    plots = compare_plots(searches, labels)
    return {
        "title": " and ".join(labels),
        "cards": [],
        "facts": [facts(search) for search in searches],
        "caveats": caveats(searches),
        "warnings": [
            f"{n}: {w}" for s, n in zip(searches, labels, strict=True) for w in warnings(s)
        ],
        "confirmed": [],
        "rule": "",
        "contrast": None,
        "sections": [Section("Side by side", plots)],
        "model": None,
        "pairs": [],
        "wrong": [],
        "retrained": None,
        "ladder": [],
        "specs": embedded([specification(plot) for plot in plots]),
        "table": embedded(table(searches)),
        "summaries": [
            {"label": n, "cards": cards(s)} for s, n in zip(searches, labels, strict=True)
        ],
    }


def table(searches: Sequence[Search]) -> dict[str, Any]:
    """The trial table for the page's script: column names and rows, best first."""
    labels = search_labels(searches)
    rows = [row for s, n in zip(searches, labels, strict=True) for row in rows_of(s, n)]
    knobs = dict.fromkeys(f"config/{name}" for search in searches for name in search.knobs)
    other = "valid_loss" if searches[0].metric == "valid_acc" else "valid_acc"
    scores = [searches[0].metric, other, "train_loss", "best_epoch", "seconds"]
    named = [*(["search"] if len(searches) > 1 else []), "trial_id", "status", "epochs", *scores]
    columns = [*named, *knobs, "error"]
    ordered = sort_rows(rows, None, searches[0], columns)
    best = [[n, s.best["trial_id"]] for s, n in zip(searches, labels, strict=True) if s.best]
    return {
        "columns": columns,
        "rows": [[short(row.get(name)) for name in columns] for row in ordered],
        "marks": [mark(row, best) for row in ordered],
    }


def short(value: Any) -> Any:
    """A cell's value with no more digits than anyone reads."""
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value


def mark(row: dict[str, Any], best: list[list[str]]) -> str:
    """Whether the row is the best trial, one not told from it, or the baseline."""
    if [row["search"], row["trial_id"]] in best:
        return "best"
    if row["trial_id"] == BASELINE:
        return "baseline"
    return "alike" if is_like_best(row) else ""


def wrong_images(search: Search, verdicts: Verdicts) -> list[dict[str, Any]]:
    """The most confidently wrong validation images, as thumbnails where the data are at hand."""
    root = Path(search.info.data.root)
    return [
        {
            "id": verdicts.ids[i],
            "actual": (actual := verdicts.classes[verdicts.labels[i]]),
            "called": verdicts.classes[verdicts.predicted[i]],
            "sure": f"{verdicts.confidence[i]:.3f}",
            "image": thumbnail(root, actual, verdicts.ids[i], verdicts.classes),
        }
        for i in verdicts.worst()
    ]

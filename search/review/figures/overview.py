"""All figures of one search, in the order of the report."""

from __future__ import annotations

from search.records.search import Search
from search.review.figures.costs import costs
from search.review.figures.curves import curves
from search.review.figures.history import history
from search.review.figures.importance import importance
from search.review.figures.parallel import parallel
from search.review.figures.slices import slice_plot
from search.review.figures.style import (
    Plot,
)
from search.review.importance import importances
from search.review.timeline import timeline


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

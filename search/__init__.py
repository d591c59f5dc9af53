"""Hyperparameter search for image classifiers; `load(dir)` opens a search as pandas frames."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from search.records import search as records


class Search(records.Search):
    """One search, with its figures."""

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The plotly figures of the report by name: history, curves, parallel, slice-lr..."""
        from search.review.figures.overview import search_plots  # plotly only when asked for

        return {plot.name: plot.figure for plot in search_plots(self)}


def load(search_dir: str | Path) -> Search:
    """Open a search directory. Raises ValueError where there is no search in it."""
    found = records.load(search_dir)
    return Search(**vars(found))


__all__ = ["Search", "load"]

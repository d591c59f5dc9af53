"""Hyperparameter search for image classifiers; `load(dir)` opens a search as pandas frames."""

from search.trials import Search, load

__all__ = ["Search", "load"]

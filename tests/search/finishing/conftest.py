"""A retrained search of digits that the tests of this folder read, and none of them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.finishing.retrain import retrain
from search.records.search import load
from search.study.loading import load_study
from tests.finished import digits_search


@pytest.fixture(scope="session")
def retrained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results/digits/one`, with `data/digits` three folders above it."""
    search_dir = digits_search(tmp_path_factory.mktemp("finished"))
    found = load(search_dir)
    retrain(found, load_study("digits"), Path(found.info.data.root))
    return search_dir

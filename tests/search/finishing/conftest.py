"""Searches of digits that the tests of this folder read, and none of them changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from search.finishing.retrain import retrain
from search.records.runs import Plan
from search.records.search import load
from search.study.loading import load_study
from tests.finished import confirm_here, digits_search

TRIALS: tuple[dict[str, Any], ...] = ({}, {"lr": 0.1, "width": 12}, {"seed": 1, "batch_size": 64})


@pytest.fixture(scope="session")
def retrained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results/digits/one`, with `data/digits` three folders above it."""
    search_dir = digits_search(tmp_path_factory.mktemp("finished"))
    found = load(search_dir)
    retrain(found, load_study("digits"), Path(found.info.data.root))
    return search_dir


@pytest.fixture(scope="session")
def confirmed_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search by log loss of three trials, each run again on three folds, without Ray."""
    search_dir = digits_search(tmp_path_factory.mktemp("confirmed"), TRIALS, "valid_loss")
    study = dataclasses.replace(load_study("digits"), metric="valid_loss")
    confirm_here(search_dir, study, Plan(("t0001", "t0002", "t0000"), 3, 1))
    return search_dir

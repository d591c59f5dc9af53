"""`show`: every knob of every task is explained, at any width, and as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from search.errors import UsageError
from search.review.study_table import describe_knobs, show_study
from search.study.loading import TASKS, load_study
from search.study.overrides import customise
from tests import toy


@pytest.mark.parametrize("task", TASKS)
def test_every_knob_has_a_meaning_and_a_unit(task: str) -> None:
    study = load_study(task)
    knobs = list(describe_knobs(study))
    names = {field.name for field in dataclasses.fields(study.config)}
    assert {knob["name"] for knob in knobs} == names
    assert [knob["name"] for knob in knobs if len(knob["meaning"]) < 15] == []
    assert [knob["name"] for knob in knobs if not knob["unit"]] == []


def test_what_is_searched_fixed_and_conditional() -> None:
    study = customise(load_study("dog_breed"), sets=["momentum=0.8"], ranges=["lr=1e-2..1:log"])
    knobs = {knob["name"]: knob for knob in describe_knobs(study)}
    assert knobs["lr"]["searched"] == "0.01..1:log"
    assert knobs["lr"]["default"] == 0.03
    assert (knobs["momentum"]["searched"], knobs["momentum"]["default"]) == (None, 0.8)
    assert knobs["lr_period"]["only_if"] == "schedule = step"
    assert (knobs["lr_period"]["unit"], knobs["dropout"]["unit"]) == ("epochs", "share")
    assert knobs["dropout"]["allowed"] == ">= 0, < 1"
    assert knobs["num_views"]["study_setting"]
    assert not knobs["lr"]["study_setting"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_text_fits_and_names_every_knob(task: str, width: int) -> None:
    study = load_study(task)
    text = show_study(study, width=width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.replace("*", " ").split())
    assert {field.name for field in dataclasses.fields(study.config)} <= words


def test_json_says_the_same() -> None:
    told = json.loads(show_study(load_study("digits"), "json"))
    assert (told["metric"], told["num_samples"], told["num_epochs"]) == ("valid_acc", 16, 15)
    lr = next(knob for knob in told["knobs"] if knob["name"] == "lr")
    assert (lr["default"], lr["searched"], lr["unit"]) == (0.05, "0.01..0.5:log", "factor")
    with pytest.raises(UsageError, match="--format 'xml': choose from table, json"):
        show_study(load_study("digits"), "xml")


def test_a_study_of_ones_own_without_docstrings_is_shown() -> None:
    assert "quality" in show_study(toy.STUDY, width=80)

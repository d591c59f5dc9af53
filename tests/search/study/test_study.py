"""A study under the user's changes: what trial 0 runs, and what is tried right after it."""

from __future__ import annotations

import dataclasses

import pytest

from search.study.loading import TASKS, load_study
from search.study.overrides import customise
from trainables.cifar10 import CONFIG, RECIPE


def test_cifar10_tries_the_recipe_right_after_the_notes() -> None:
    study = load_study("cifar10")
    notes = {**dataclasses.asdict(CONFIG), "flip_average": True}
    assert dataclasses.asdict(study.config) == notes
    assert study.points == [{**dataclasses.asdict(RECIPE), "flip_average": True}]


def test_what_the_user_fixes_holds_for_the_points_too() -> None:
    study = customise(load_study("cifar10"), sets=["batch_size=64"], num_epochs=3)
    (point,) = study.points
    assert (point["batch_size"], point["num_epochs"]) == (64, 3)
    assert point["schedule"] == RECIPE.schedule


def test_a_point_outside_the_users_range_is_left_out() -> None:
    assert customise(load_study("cifar10"), ranges=["label_smoothing=0..0.05"]).points == []


@pytest.mark.parametrize("task", TASKS)
def test_every_point_of_a_task_lies_in_its_space(task: str) -> None:
    study = load_study(task)
    assert len(study.points) == len(study.points_to_evaluate)

"""A study under the user's changes: what trial 0 runs, and what is tried right after it."""

from __future__ import annotations

import dataclasses

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from pydantic import ValidationError

from search.errors import UsageError
from search.plan import same_budget
from search.records.manifest import Manifest
from search.study.feature_choices import feature_configs
from search.study.loading import TASKS, load_study
from search.study.overrides import customise
from search.study.space import When
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


@pytest.mark.parametrize(("task", "low", "high"), [("cifar10", 2, 40), ("dog_breed", 2, 30)])
def test_a_range_of_the_users_keeps_the_knobs_condition(task: str, low: int, high: int) -> None:
    study = customise(load_study(task), ranges=[f"lr_period={low}..{high}"])
    assert study.space["lr_period"] == When("schedule", ("step",), IntDistribution(low, high))
    assert list(study.space) == list(load_study(task).space)
    back = customise(load_study(task), sets=["lr_decay=0.5"], ranges=["lr_decay=0.1..0.9"])
    assert back.space["lr_decay"] == When("schedule", ("step",), FloatDistribution(0.1, 0.9))


def test_a_range_under_a_condition_that_is_fixed() -> None:
    study = load_study("cifar10")
    plain = customise(study, sets=["schedule=step"], ranges=["lr_period=2..30"])
    assert plain.space["lr_period"] == IntDistribution(2, 30)
    never = "lr_period=2..30: this knob exists only while schedule is step, and that is set to"
    with pytest.raises(UsageError, match=f"{never} cosine"):
        customise(study, sets=["schedule=cosine"], ranges=["lr_period=2..30"])


def test_a_sampler_has_a_known_name() -> None:
    study = load_study("digits")
    assert customise(study, sets=["sampler=tpe"]).sampler == "tpe"
    names = "unknown sampler 'magic': choose gp, tpe, random or cmaes"
    with pytest.raises(UsageError, match=names):
        customise(study, sets=["sampler=magic"])
    with pytest.raises(ValidationError, match=names):
        dataclasses.replace(study, sampler="magic")


@pytest.mark.parametrize("task", TASKS)
def test_every_point_of_a_task_lies_in_its_space(task: str) -> None:
    study = load_study(task)
    assert len(study.points) == len(study.points_to_evaluate)


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(3, (2,)), (15, (2, 6)), (20, (2, 6)), (52, (3, 9, 27)), (200, (12, 36, 108))],
)
def test_the_first_rung_goes_by_the_budget(epochs: int, rungs: tuple[int, ...]) -> None:
    assert customise(load_study("digits"), num_epochs=epochs).rungs == rungs


def test_a_resumed_search_keeps_the_rungs_that_its_trials_were_compared_at() -> None:
    before = Manifest(
        task="digits",
        metric="valid_acc",
        mode="max",
        num_epochs=15,
        grace_period=3,
        reduction_factor=2.0,
        space={},
        baseline={},
    )
    study = same_budget(load_study("digits"), before)
    assert study.rungs == (3, 6)
    assert customise(study, sets=["grace_period=5"]).rungs == (5, 10)


def test_a_searched_backbone_has_a_baseline_among_its_choices() -> None:
    spec = "backbone=resnet18,timm/test_resnet,resnet18+timm/test_resnet"
    study = customise(load_study("dog_breed"), sets=["weights=random"], ranges=[spec])
    assert (
        dataclasses.asdict(study.config)["backbone"] == "resnet18"
    )  # not resnet34, which nobody asked for
    assert all(point["backbone"] == "resnet18" for point in study.points)
    kept = customise(load_study("dog_breed"), ranges=["backbone=resnet18,resnet34"])
    assert dataclasses.asdict(kept.config)["backbone"] == "resnet34"


def test_each_value_of_what_changes_features_is_a_configuration() -> None:
    ranges = ["backbone=resnet18,resnet34", "image_size=64,96"]
    study = customise(load_study("dog_breed"), ranges=ranges)
    assert [(c.backbone, c.image_size) for c in feature_configs(study)] == [  # type: ignore[attr-defined]
        ("resnet18", 64), ("resnet18", 96), ("resnet34", 64), ("resnet34", 96),
    ]  # fmt: skip
    assert feature_configs(load_study("dog_breed")) == [load_study("dog_breed").config]
    assert feature_configs(load_study("digits")) == [load_study("digits").config]


def test_further_knobs_are_searched_where_stages_are_unfrozen() -> None:
    study = load_study("dog_breed")
    assert not study.further.keys() & customise(study).space.keys()
    fixed = customise(study, sets=["unfreeze=2", "freeze_norms=true"])
    assert fixed.space.keys() - study.space.keys() == {"backbone_lr"}
    assert fixed.space["backbone_lr"] == FloatDistribution(0.003, 1.0, log=True)
    assert len(fixed.points) == len(study.points)
    searched = customise(study, ranges=["unfreeze=0,1,2", "backbone_lr=0.01..0.1"])
    assert [c.unfreeze for c in feature_configs(searched)] == [0, 1, 2]  # type: ignore[attr-defined]
    assert searched.space["freeze_norms"] == dataclasses.replace(
        study.further["freeze_norms"], values=(1, 2)
    )
    assert searched.space["backbone_lr"] == FloatDistribution(0.01, 0.1)
    assert list(searched.space).index("unfreeze") < list(searched.space).index("freeze_norms")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("unfreeze=0..2", "list the values"),
        ("image_size=64..96", "list the values, such as image_size=224,320"),
        ("backbone=resnet18,resnet_34", "did you mean resnet34?"),
        ("weights=random,imagenet", "setting of the whole study"),
    ],
)
def test_what_cannot_be_searched_of_a_backbone_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match="^[^\n]*$") as raised:
        customise(load_study("dog_breed"), ranges=[spec])
    assert words in str(raised.value)

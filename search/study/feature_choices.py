"""Which configurations of a study have cached features of their own."""

from __future__ import annotations

import dataclasses
import itertools

from optuna.distributions import CategoricalDistribution

from search.study.space import distribution
from search.study.study import Study
from trainables.config import TrainConfig


def feature_configs(study: Study) -> list[TrainConfig]:
    """The study's configuration with each value of the knobs that change features, the first first.

    They are its trainables' FEATURE_KNOBS, as far as they are searched; without any it is one.
    """
    names = [name for name in getattr(study.trainables, "FEATURE_KNOBS", ()) if name in study.space]
    knobs = [distribution(study.space, name) for name in names]
    choices = [knob.choices for knob in knobs if isinstance(knob, CategoricalDistribution)]
    assert len(choices) == len(knobs)
    return [
        dataclasses.replace(study.config, **dict(zip(names, values, strict=True)))
        for values in itertools.product(*choices)
    ]

"""A sampler by its name, or around an Optuna sampler object; whether it can search a space."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Sequence

import optuna
from optuna.samplers import BaseSampler

from search.errors import UsageError
from search.samplers.own_sampler import OwnSampler, try_out
from search.samplers.sampler import Sampler
from search.samplers.trial import Mode
from search.study.choices import SAMPLERS, check_sampler_name
from search.study.space import Space


def make_sampler(
    sampler: str | BaseSampler, space: Space, mode: Mode, levels: Sequence[int], seed: int
) -> Sampler:
    """The sampler of a name in SAMPLERS, or one around an Optuna sampler object."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for every study
    if isinstance(sampler, BaseSampler):
        return OwnSampler(space, sampler, mode, levels)
    module, _, maker = SAMPLERS[check_sampler_name(sampler)].partition(":")
    made: Sampler = getattr(importlib.import_module(module), maker)(space, mode, levels, seed)
    return made


def check_sampler(sampler: str | BaseSampler, space: Space) -> None:
    """Raise UsageError, one line, unless the sampler can propose configurations of the space.

    An object is tried on a copy of itself, so that it starts the search as it was given.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if isinstance(sampler, BaseSampler):
            try_out(copy.deepcopy(sampler), space)
        else:
            make_sampler(sampler, space, "max", (1,), 0)
    except ValueError as error:
        raise UsageError(str(error)) from None

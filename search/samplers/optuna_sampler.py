"""Proposals from an Optuna sampler that is shown one rung at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.records.statuses import BAD
from search.samplers.trial import Mode, Observed
from search.study.space import Config, Space, When, contains, distribution, project, suggest

TRIES = 10  # proposals before the sampler is taken to repeat itself
MOST = 250  # trials shown to a sampler: its cost must not grow with the search
RANDOM_SHARE = 0.2  # of TPE's proposals; in the pilot as good as any

Proposal = tuple[Config, dict[str, Any]]
IsNew = Callable[[Config], bool]


def make_sampler(sampler: str | BaseSampler, space: Space, seed: int) -> BaseSampler:
    """An Optuna sampler by name (tpe, random, cmaes); an object passes through.

    Raises ValueError for another name, and for CMA-ES where the space has conditions or categories.
    """
    if isinstance(sampler, BaseSampler):
        return sampler
    conditional = any(isinstance(entry, When) for entry in space.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if sampler == "random":
            return RandomSampler(seed=seed)
        if sampler == "tpe":
            return TPESampler(seed=seed, group=conditional, constant_liar=True)
        if sampler == "cmaes":
            categories = optuna.distributions.CategoricalDistribution
            if conditional or any(isinstance(knob, categories) for knob in space.values()):
                raise ValueError("sampler cmaes needs numbers only: use tpe or gp for this space")
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
    raise ValueError(f"unknown sampler {sampler!r}: choose tpe, random, gp or cmaes")


class RungProposals:
    """A sampler sees the highest rung that enough trials have reached, as in BOHB.

    Falkner et al. 2018; as there, TPE leaves a fixed share of the proposals to chance.
    """

    def __init__(
        self,
        space: Space,
        sampler: str | BaseSampler,
        mode: Mode,
        levels: Sequence[int],
        seed: int,
    ) -> None:
        """`levels` are the rungs' epochs and the full budget, ascending."""
        self.space = space
        self.mode = mode
        self.levels = tuple(levels)
        self.random_share = RANDOM_SHARE if sampler == "tpe" else 0.0
        self.sampler = make_sampler(sampler, space, seed)
        self.random = RandomSampler(seed=seed + 1)
        self.rng = np.random.default_rng(seed)
        self.enough = len(space) + 1

    def propose(self, trials: Sequence[Observed], is_new: IsNew) -> Proposal | None:
        """A configuration and what the sampler wants remembered with it; None if it repeats."""
        for _ in range(TRIES):
            by_chance = self.rng.random() < self.random_share
            sampler = self.random if by_chance else self.sampler
            blind = isinstance(sampler, RandomSampler)  # showing it trials takes time for nothing
            proposal = self._ask(sampler, [] if blind else self._view(trials))
            if is_new(proposal[0]):
                return proposal
        return None

    def _view(self, trials: Sequence[Observed]) -> list[FrozenTrial]:
        """The newest trials as the sampler shall see them: at one level, the bad ones as worst."""
        level = self._level(trials)
        shown: list[FrozenTrial] = []
        for trial in reversed(trials):
            state, value = self._told(trial, level)
            if state is not None and contains(self.space, trial.config):
                shown.append(self._frozen(trial, state, value))
            if len(shown) >= MOST:
                break
        return shown[::-1]

    def _level(self, trials: Sequence[Observed]) -> int:
        """The highest level that enough trials have reached, else the lowest."""
        for level in reversed(self.levels):
            if sum(trial.epoch >= level for trial in trials) >= self.enough:
                return level
        return self.levels[0]

    def _told(self, trial: Observed, level: int) -> tuple[TrialState | None, float | None]:
        """State and value: PRUNED without a value is TPE's worst; FAIL it would ignore."""
        value = trial.value_at(level)
        if trial.status in BAD:
            return TrialState.PRUNED, None
        if value is not None:
            return TrialState.COMPLETE, value
        return (TrialState.RUNNING, None) if trial.status == "running" else (None, None)

    def _frozen(self, trial: Observed, state: TrialState, value: float | None) -> FrozenTrial:
        params = project(self.space, trial.config)
        return optuna.create_trial(
            state=state,
            value=value,
            params=params,
            distributions={name: distribution(self.space, name) for name in params},
            system_attrs=trial.sampler_attrs,
        )

    def _ask(self, sampler: BaseSampler, view: list[FrozenTrial]) -> Proposal:
        study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            sampler=sampler,
            direction="maximize" if self.mode == "max" else "minimize",
        )
        study.add_trials(view)
        config = suggest(study.ask(), self.space)
        return config, dict(study.get_trials(deepcopy=False)[-1].system_attrs)

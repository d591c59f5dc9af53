"""Proposals from an Optuna sampler that is shown one rung at a time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.records.statuses import BAD
from search.samplers.sampler import IsNew, Proposal
from search.samplers.trial import Mode, SearchTrial
from search.study.space import Space, When, contains, distribution, project, suggest

TRIES = 10  # proposals before the sampler is taken to repeat itself
MOST = 250  # trials shown to a sampler: its cost must not grow with the search
RANDOM_SHARE = 0.2  # of TPE's proposals; in the pilot as good as any


def tpe(space: Space, mode: Mode, levels: Sequence[int], seed: int) -> OptunaSampler:
    """Tree-structured Parzen estimator."""
    conditional = any(isinstance(entry, When) for entry in space.values())
    with quiet():
        sampler = TPESampler(seed=seed, group=conditional, constant_liar=True)
    return OptunaSampler(space, sampler, mode, levels, seed, random_share=RANDOM_SHARE)


def random(space: Space, mode: Mode, levels: Sequence[int], seed: int) -> OptunaSampler:
    """By chance alone."""
    return OptunaSampler(space, RandomSampler(seed=seed), mode, levels, seed)


def cmaes(space: Space, mode: Mode, levels: Sequence[int], seed: int) -> OptunaSampler:
    """CMA-ES. Raises ValueError for a space with conditions or categories."""
    plain = optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution
    if not all(isinstance(entry, plain) for entry in space.values()):
        raise ValueError("sampler cmaes needs numbers only: use tpe or gp for this space")
    with quiet():
        sampler = CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return OptunaSampler(space, sampler, mode, levels, seed)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's word that an argument may change in a later version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class OptunaSampler:
    """A sampler sees the highest rung that enough trials have reached, as in BOHB.

    Falkner et al. 2018; as there, TPE leaves a fixed share of the proposals to chance.
    """

    def __init__(
        self,
        space: Space,
        sampler: BaseSampler,
        mode: Mode,
        levels: Sequence[int],
        seed: int,
        random_share: float = 0.0,
    ) -> None:
        """`random_share` of the proposals are left to chance."""
        self.space = space
        self.mode = mode
        self.levels = tuple(levels)
        self.random_share = random_share
        self.sampler = sampler
        self.random = RandomSampler(seed=seed + 1)
        self.rng = np.random.default_rng(seed)
        self.enough = len(space) + 1

    def propose(self, trials: Sequence[SearchTrial], is_new: IsNew) -> Proposal | None:
        """A configuration and what the sampler wants remembered with it; None if it repeats."""
        for _ in range(TRIES):
            by_chance = self.rng.random() < self.random_share
            sampler = self.random if by_chance else self.sampler
            blind = isinstance(sampler, RandomSampler)  # showing it trials takes time for nothing
            proposal = self._ask(sampler, [] if blind else self._view(trials))
            if is_new(proposal[0]):
                return proposal
        return None

    def _view(self, trials: Sequence[SearchTrial]) -> list[FrozenTrial]:
        """The newest trials as the sampler shall see them: at one level, the bad ones as worst."""
        level = common_level(trials, self.levels, self.enough)
        shown: list[FrozenTrial] = []
        for trial in reversed(trials):
            state, value = as_told(trial, level)
            if state is not None and contains(self.space, trial.config):
                shown.append(frozen(trial, self.space, state, value))
            if len(shown) >= MOST:
                break
        return shown[::-1]

    def _ask(self, sampler: BaseSampler, view: list[FrozenTrial]) -> Proposal:
        study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            sampler=sampler,
            direction="maximize" if self.mode == "max" else "minimize",
        )
        study.add_trials(view)
        config = suggest(study.ask(), self.space)
        return config, dict(study.get_trials(deepcopy=False)[-1].system_attrs)


def common_level(trials: Sequence[SearchTrial], levels: Sequence[int], enough: int) -> int:
    """The highest level that enough trials have reached, else the lowest."""
    for level in reversed(levels):
        if sum(trial.epoch >= level for trial in trials) >= enough:
            return level
    return levels[0]


def as_told(trial: SearchTrial, level: int) -> tuple[TrialState | None, float | None]:
    """State and value: PRUNED without a value is TPE's worst; FAIL it would ignore."""
    value = trial.value_at(level)
    if trial.status in BAD:
        return TrialState.PRUNED, None
    if value is not None:
        return TrialState.COMPLETE, value
    return (TrialState.RUNNING, None) if trial.status == "running" else (None, None)


def frozen(trial: SearchTrial, space: Space, state: TrialState, value: float | None) -> FrozenTrial:
    """The trial as Optuna has it."""
    params = project(space, trial.config)
    return optuna.create_trial(
        state=state,
        value=value,
        params=params,
        distributions={name: distribution(space, name) for name in params},
        system_attrs=trial.sampler_attrs,
    )

"""An Optuna sampler object of the user's, asked in one study that lives as long as the search.

Many samplers keep what they have done in the study: the points of a grid that are visited, the
place in a low-discrepancy sequence, the generations of a genetic algorithm. So trials keep their
numbers there, while their values follow the rung at which the search compares trials by now. The
cost of a proposal is the sampler's own, which may grow with the search.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Container, Sequence

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.samplers.optuna_sampler import TRIES, as_told, common_level, frozen
from search.samplers.sampler import Exhausted, IsNew, Proposal
from search.samplers.trial import Mode, SearchTrial
from search.study.space import Key, Space, contains, key, suggest

NUMBER = "number"  # the trial's number in the study, among what is remembered with a proposal
LOOKS = 100  # proposals that are tried before a search
NAME = "own"


class OwnSampler:
    """Ends the search when the sampler calls `Study.stop`, as a grid does after its last point."""

    def __init__(
        self, space: Space, sampler: BaseSampler, mode: Mode, levels: Sequence[int]
    ) -> None:
        """`levels` are the rungs' epochs and the full budget, ascending."""
        self.space = space
        self.levels = tuple(levels)
        self.storage = RungStorage()
        self.study = live_study(sampler, mode, self.storage)
        self.numbers: dict[SearchTrial, int] = {}

    def propose(self, trials: Sequence[SearchTrial], is_new: IsNew) -> Proposal | None:
        """A configuration, and its number in the study; None if the sampler repeats itself."""
        self._tell(trials)
        repeated: list[Key] = []
        while not self.study.ended and len(repeated) - len(set(repeated)) < TRIES:
            asked = self.study.ask()
            config = suggest(asked, self.space)
            if is_new(config):
                return config, {NUMBER: asked.number}
            self.study.tell(asked, state=TrialState.FAIL)
            repeated.append(key(config))
        if self.study.ended:
            name = type(self.study.sampler).__name__
            raise Exhausted(f"{name} has proposed all of its points")
        return None

    def _tell(self, trials: Sequence[SearchTrial]) -> None:
        """Bring the study up to date."""
        level = common_level(trials, self.levels, enough=len(self.space) + 1)
        for trial in trials:
            if not contains(self.space, trial.config):
                continue
            state, value = as_told(trial, level)
            if trial not in self.numbers:
                self.numbers[trial] = self._number(trial)
            number = self.numbers[trial]
            ended = state in (TrialState.COMPLETE, TrialState.PRUNED)
            if ended and NUMBER in trial.sampler_attrs:
                self.study.tell(number, value, state=state, skip_if_finished=True)
            self.storage.show(number, state or TrialState.FAIL, value)

    def _number(self, trial: SearchTrial) -> int:
        """Where the trial stands in the study; one of another origin is added as running."""
        if NUMBER not in trial.sampler_attrs:
            self.study.add_trial(frozen(trial, self.space, TrialState.RUNNING, None))
            return len(self.study.get_trials(deepcopy=False)) - 1
        return int(trial.sampler_attrs[NUMBER])


class LiveStudy(optuna.Study):
    """Notes that the sampler wants to stop; Optuna itself allows that in `optimize` alone."""

    ended = False

    def stop(self) -> None:
        """All has been proposed."""
        self.ended = True


class RungStorage(InMemoryStorage):
    """Shows a trial with its present value in place of the one that it was told first."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[int, FrozenTrial] = {}

    def show(self, number: int, state: TrialState, value: float | None) -> None:
        """From now on the trial has this state and value."""
        before = self.shown.get(number)
        if before is None or (before.state, before.value) != (state, value):
            trial = copy.copy(super().get_trial(number))  # one study: the id is the number
            trial.state, trial.value = state, value
            self.shown[number] = trial

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """What samplers look at."""
        return self.shown.get(trial_id) or super().get_trial(trial_id)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """The same of all."""
        stored = super().get_all_trials(study_id, deepcopy=False)
        trials = [self.shown.get(trial.number, trial) for trial in stored]
        kept = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(kept) if deepcopy else kept


def live_study(sampler: BaseSampler, mode: Mode, storage: InMemoryStorage) -> LiveStudy:
    """A new study."""
    optuna.create_study(
        storage=storage, study_name=NAME, direction="maximize" if mode == "max" else "minimize"
    )
    return LiveStudy(NAME, storage, sampler=sampler)


def try_out(sampler: BaseSampler, space: Space) -> None:
    """Ask for some configurations, which all fail. Raises ValueError, one line, where one cannot.

    The sampler is of no more use after that.
    """
    name = type(sampler).__name__
    study = live_study(sampler, "max", InMemoryStorage())
    for _ in range(LOOKS):
        if study.ended:
            return
        asked = study.ask()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a value outside its range: refused below
                config = suggest(asked, space)
        except Exception as error:  # the user's object may raise anything
            reason = " ".join(f"{error}".split()) or type(error).__name__
            raise ValueError(
                f"sampler {name} cannot search {', '.join(space)}: {reason}"
            ) from error
        if not contains(space, config):
            raise ValueError(f"sampler {name} proposes {config}, which the search space lacks")
        study.tell(asked, state=TrialState.FAIL)

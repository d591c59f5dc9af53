"""Which trials run to their last epoch whatever their rank: baseline, presets, audited ones.

The baseline is the number to beat; whole curves of presets show what each schedule ends in; those
that are drawn to be audited tell what early stopping costs (`search/review/audit.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from search.samplers.trial import SearchTrial
from search.study.choices import AUDIT_SHARE

STREAM = 1  # of the seed's random numbers, so that these are nobody else's


@dataclass(frozen=True)
class WholeBudget:
    """`audit_share` of the trials that are neither baseline nor preset are audited."""

    finish_presets: bool = True
    audit_share: float = AUDIT_SHARE
    seed: int = 0

    def draw(self, trial: SearchTrial) -> None:
        """Decide on a new trial, by the seed and its number: the same in every session."""
        rng = np.random.default_rng([self.seed, int(trial.trial_id[1:]), STREAM])
        trial.audited = not self.covers(trial) and bool(rng.random() < self.audit_share)

    def among(self, trials: Iterable[SearchTrial]) -> set[str]:
        """The ids of those that run to their last epoch."""
        return {trial.trial_id for trial in trials if self.covers(trial)}

    def covers(self, trial: SearchTrial) -> bool:
        """Whether the trial runs to its last epoch whatever its rank."""
        preset = trial.origin == "user" and self.finish_presets
        return preset or trial.origin == "baseline" or trial.audited

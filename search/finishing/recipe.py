"""What the final model is made of: members, looks at the images, a temperature.

Each step is judged on folds that it was not fitted to, and applied where it helps by more than its
standard error there (`decision.py`): one that does not is left out, and the ladder says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.errors import UsageError
from search.finishing.calibrate import Calibration
from search.finishing.ladder import Step

AUTO, NONE, MIRROR = "auto", "none", "mirror"  # of --tta


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    trial: str | None = None
    num_epochs: int | None = None
    calibrate: bool = True
    tta: str = "auto"
    seeds: int = 1
    ensemble: int = 0
    """Picks of the greedy selection; 0: no ensemble."""

    def __post_init__(self) -> None:
        """Raise UsageError for what does not go together."""
        if self.tta not in (AUTO, NONE, MIRROR) and not self.tta.isdecimal():
            raise UsageError(f"--tta {self.tta}: use auto, none, mirror, or a number of looks")
        if self.seeds > 1 and self.ensemble:
            raise UsageError(
                "--seeds and --ensemble: an ensemble takes the seeds that were confirmed; use one"
            )
        if self.ensemble and (self.trial or self.num_epochs):
            raise UsageError(
                "--ensemble takes confirmed configurations: leave --trial and --num-epochs out"
            )


@dataclass(frozen=True)
class Member:
    """A configuration to train on all labelled images, and its share of the prediction."""

    trial_id: str
    seed: int
    """Added to the trial's own."""
    weight: float
    epochs: int
    averaged: bool
    """Whether the moving average of its weights is the model."""


@dataclass(frozen=True)
class Recipe:
    """The whole."""

    choice: Mapping[str, Any]
    """The trial, in the form of best.json."""
    members: tuple[Member, ...]
    looks: tuple[str, ...] | None
    """Other looks at an image to average predictions over; None: as `flip_average` says."""
    calibration: Calibration
    ladder: tuple[Step, ...] = ()
    num_epochs: int | None = None
    """Another full budget than the trials had."""

    def described(self) -> dict[str, Any]:
        """For metadata.json."""
        return {
            "members": [asdict(member) for member in self.members],
            "looks": None if self.looks is None else list(self.looks),
            "calibration": asdict(self.calibration),
            "ladder": [asdict(each) for each in self.ladder],
        }

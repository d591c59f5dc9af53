"""What becomes of a trial that met an error, and the trials that wait to be handed out again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from ray.tune.experiment import Trial


@dataclass(frozen=True)
class Verdict:
    """`status` is the trial's end, `failed` or `lost`; None: it is handed out again."""

    status: Literal["failed", "lost"] | None
    error: str
    """What happened, in one line."""
    not_before: float = 0.0
    """When it may be handed out again, by time.monotonic()."""
    alone: bool = False
    """Whether it then gets a GPU of its own."""


class Judge(Protocol):
    """Who knows what an error means (`running/retries.py`)."""

    def judge(self, trial: Trial) -> Verdict:
        """What becomes of a Ray trial that ended with an error."""

    def troubled(self) -> bool:
        """Whether nothing new is to be proposed as long as others wait to be tried again."""

    def over(self) -> bool:
        """Whether the search is being stopped, and nothing is to be handed out any more."""


class NoRetries:
    """Every error is the trial's own."""

    def judge(self, trial: Trial) -> Verdict:
        """Failed."""
        return Verdict("failed", "")

    def troubled(self) -> bool:
        """Never."""
        return False

    def over(self) -> bool:
        """Never."""
        return False


class Waiting:
    """Trials to hand out again, in their order, each not before its time."""

    def __init__(self, trial_ids: Iterable[str]) -> None:
        self._times = dict.fromkeys(trial_ids, -math.inf)

    def __bool__(self) -> bool:
        return bool(self._times)

    def add(self, trial_id: str, not_before: float) -> None:
        """Let a trial wait, by time.monotonic()."""
        self._times[trial_id] = not_before

    def take(self) -> str | None:
        """The first whose time has come, which waits no longer."""
        now = time.monotonic()
        due = next((name for name, moment in self._times.items() if moment <= now), None)
        if due is not None:
            del self._times[due]
        return due

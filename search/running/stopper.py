"""When the whole search stops early: a time budget, a plateau, or the user."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from ray.tune import Stopper

from search.command_line.interrupts import listen, listening
from search.records.best import score
from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.statuses import FINISHED

INTERRUPTED = "interrupted by "
GIVEN_UP = "given up: "


class Budget(Stopper):  # type: ignore[misc]
    """Tells Ray to stop everything once there is a `reason`.

    `seconds` is the wall time from now on; `patience` the number of finished trials in a row that
    may fail to improve the best. None means no limit.
    """

    def __init__(self, seconds: float | None, patience: int | None, metric: str, mode: str) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.seconds = seconds
        self.patience = patience
        self.metric = metric
        self.mode = mode
        self.best = float("-inf")
        self.since_best = 0
        self.reason: str | None = None
        self.signalled = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Ray asks this after every event."""
        if self.reason is None and self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = f"time budget of {self.seconds:.0f} s reached"
        return self.reason is not None

    def count(self, record: TrialRecord) -> None:
        """Take a finished trial into account for the plateau."""
        if record.status not in FINISHED:
            return
        scored = score(record, self.metric, self.mode)
        value = float("-inf") if scored is None else oriented(scored.value, self.mode)
        self.since_best = 0 if value > self.best else self.since_best + 1
        self.best = max(self.best, value)
        if self.patience is not None and self.since_best >= self.patience and self.reason is None:
            self.reason = f"no improvement in {self.patience} finished trials"

    def give_up(self, reason: str) -> None:
        """Stop because going on would not help: the exit code tells of a failure."""
        if self.reason is None:
            self.reason = GIVEN_UP + reason

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal: the first one stops the search cleanly, the second one at once."""
        if self.signalled:
            if number == signal.SIGPIPE:  # Ctrl-C has ended its reader as well
                return
            os._exit(128 + number)
        self.signalled = True
        self.reason = INTERRUPTED + signal.Signals(number).name

    def listen(self) -> None:
        """Handle the signals again, after Ray Tune has taken SIGUSR1 for itself."""
        listen(self.handle)

    def signals(self) -> AbstractContextManager[None]:
        """While active, Ctrl-C and the signals like it stop the search."""
        return listening(self.handle)


def exit_code(reason: str | None) -> int:
    """Of a search that stopped for this reason: 128 and the signal's number, 1 if it gave up."""
    if reason is None:
        return 0
    if reason.startswith(INTERRUPTED):
        return 128 + signal.Signals[reason.removeprefix(INTERRUPTED)]
    return 1 if reason.startswith(GIVEN_UP) else 0

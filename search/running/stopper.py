"""When the whole search stops early: a time budget, a plateau, or the user."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.tune import Stopper

from search.records.best import score
from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.statuses import FINISHED


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
        self.exit_code = 0
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

    def give_up(self, trouble: str) -> None:
        """Stop because nothing but the machine's trouble is met."""
        if self.reason is None:
            self.reason = f"nothing but trouble with the machine: {trouble}"
            self.exit_code = 1

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While active, one Ctrl-C or SIGTERM stops the search cleanly, a second one at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.signalled:
                os._exit(130)
            self.signalled = True
            self.reason = f"interrupted by {signal.Signals(number).name}"

        before = {kind: signal.signal(kind, handle) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

"""A search over time: what was known after so many seconds, and after so many epochs spent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.records.ledger import LEDGER, read_events
from search.records.metric import oriented
from search.records.search import Search


@dataclass(frozen=True)
class Timeline:
    """Arrays over the reported epochs in the order of their arrival.

    `seconds` is the time the search ran, without the pauses between sessions; `values` the metric
    (nan where it was not finite); `best` the best value so far (nan before the first).
    `last` maps a trial to the second of its last report; a promoting scheduler may end it later.
    """

    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    best: NDArray[np.float64]
    last: dict[str, float] = field(default_factory=dict)

    @property
    def spent(self) -> NDArray[np.int64]:
        """Epochs trained by all trials together up to each report, from 1."""
        return np.arange(1, len(self.seconds) + 1)

    def improvements(self) -> NDArray[np.int64]:
        """Indices of the reports that were the best so far, and the last one: all a line needs."""
        if not len(self.best):
            return np.empty(0, dtype=np.int64)
        known = np.nan_to_num(self.best, nan=math.inf)
        changed = np.flatnonzero(np.diff(known, prepend=math.inf) != 0)
        return np.unique(np.append(changed, len(known) - 1))


def timeline(search: Search) -> Timeline:
    """The search's timeline, read from its ledger."""
    return build_timeline(read_events(search.path / LEDGER), search.metric, search.mode)


def build_timeline(events: Iterable[dict[str, Any]], metric: str, mode: str) -> Timeline:
    """The timeline of these events; time between the last event and a new session is left out."""
    seconds: list[float] = []
    values: list[float] = []
    reported: dict[str, float] = {}
    origin = last = math.nan
    for event in events:
        now = float(event.get("time", last))
        if math.isnan(origin):
            origin = now
        elif event["event"] == "session":
            origin += now - last
        last = now
        if event["event"] == "report":
            value = event["metrics"].get(metric)
            seconds.append(now - origin)
            reported[event["trial"]] = now - origin
            values.append(value if isinstance(value, (int, float)) else math.nan)
    scores = np.asarray(values, dtype=np.float64)
    scores[~np.isfinite(scores)] = math.nan
    running = oriented(np.fmax.accumulate(oriented(scores, mode)), mode)
    return Timeline(np.asarray(seconds, dtype=np.float64), scores, running, reported)

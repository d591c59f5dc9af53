"""A searcher that has nothing to propose: it hands out a list of points, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.records.statuses import FINISHED
from search.samplers.trial import SearchTrial
from search.schedulers.searcher import AshaSearcher


@dataclass(frozen=True)
class Point:
    """One run; by its `name`, the trial's origin in the ledger, it is known again."""

    name: str
    config: Mapping[str, Any]
    group: str
    """Of the points that are given up together."""
    stage: int


class ListSearcher(AshaSearcher):
    """Hands out each point once, those of a stage when all of the one before have ended.

    `dropped` tells the groups that are given up before a stage, by what the stages before have
    shown: the same whenever it is asked, so that a resumed list is the same list.
    """

    def __init__(
        self,
        points: Sequence[Point],
        dropped: Callable[[int], Collection[str]],
        **settings: Any,
    ) -> None:
        super().__init__(
            {}, num_samples=len(points), scheduler="none", sampler="random", **settings
        )
        self.points = points
        self.dropped = dropped

    def _new(self) -> SearchTrial | None:
        """The next point, unless an earlier stage is not over or nothing is left."""
        begun = {trial.origin for trial in self.trials.values()}
        for point in self.points:
            if point.name in begun:
                continue
            if self._waits(point.stage):
                return None
            if point.group not in self.dropped(point.stage):
                trial = SearchTrial(next(self._new_ids), dict(point.config), point.name)
                self.trials[trial.trial_id] = trial
                return trial
        return None

    def _waits(self, stage: int) -> bool:
        """Whether a point of an earlier stage still runs, or is tried again."""
        earlier = {point.name for point in self.points if point.stage < stage}
        going_on = (
            trial.trial_id in self.running or (self._unfinished and trial.status not in FINISHED)
            for trial in self.trials.values()
            if trial.origin in earlier
        )
        return any(going_on)

"""Schedulers for Ray Tune: stopping ASHA, promoting ASHA, and none (which still ends NaN).

They share the `Rungs` with the searcher, so that rungs survive a resume, and know a trial by the
project's own id, `config["_trial_id"]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.records.statuses import Status, is_diverged
from search.schedulers.searcher import AshaSearcher


class Room(Protocol):
    """Who knows how much the checkpoints of waiting trials may take (`running/checkpoints.py`)."""

    def crowded(self, waiting: Iterable[str]) -> bool:
        """Whether those of these trials take more than they may."""

    def end(self, trial_id: str, status: Status) -> None:
        """Record the end of a trial that Ray does not know."""


class PlainScheduler(FIFOScheduler):  # type: ignore[misc]
    """Runs every trial to its last epoch, but ends one whose loss or metric is not finite."""

    def __init__(self, searcher: AshaSearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Show the searcher a trial that is to have a GPU of its own."""
        if trial.config["_alone"]:
            self.searcher.alone.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """None: Ray starts pending trials by itself, and the inherited scan is linear in trials."""
        return None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE, or STOP for a trial that has diverged or is complete."""
        if is_diverged(result, self.searcher.metric):
            return str(TrialScheduler.STOP)
        if result["epoch"] >= self.searcher.num_epochs:
            return str(TrialScheduler.STOP)
        return self.decide(project_id(trial), result["epoch"], result[self.searcher.metric])

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Have the error judged, before Ray tells the searcher of it.

        Ray itself tries nothing again, but for a node that is taken away with notice.
        """
        if not trial.should_recover():
            self.searcher.on_error(trial)

    def decide(self, trial_id: str, epoch: int, value: float) -> str:
        """What becomes of a healthy, unfinished trial."""
        return str(TrialScheduler.CONTINUE)

    def runs_whole(self, trial_id: str) -> bool:
        """Whether a trial runs to its last epoch whatever its rank."""
        trial = self.searcher.trials.get(trial_id)
        return trial is not None and self.searcher.whole.covers(trial)

    def debug_string(self) -> str:
        """For Ray's log."""
        return type(self).__name__


class AshaScheduler(PlainScheduler):
    """Stopping ASHA: at a rung, a trial ends unless it is in the top 1/factor of those before."""

    def decide(self, trial_id: str, epoch: int, value: float) -> str:
        """STOP below the rung's cutoff."""
        rungs = self.searcher.rungs
        rung = rungs.record(trial_id, epoch, value)
        stop = (
            rung is not None
            and not self.runs_whole(trial_id)
            and rungs.below_cutoff(trial_id, rung)
        )
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class PromotingScheduler(PlainScheduler):
    """Promoting ASHA: pause at every rung, run on the best 1/factor, try new ones otherwise.

    The trainable must attach a checkpoint to its report at every rung's epoch.
    """

    def __init__(self, searcher: AshaSearcher, room: Room | None = None) -> None:
        super().__init__(searcher)
        self.room = room
        self._trials: dict[str, Trial] = {}
        self._chosen: Trial | None = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remember Ray's object, to promote the trial by."""
        super().on_trial_add(tune_controller, trial)
        self._trials[project_id(trial)] = trial

    def decide(self, trial_id: str, epoch: int, value: float) -> str:
        """PAUSE at a rung that the trial reaches for the first time."""
        reached = self.searcher.rungs.record(trial_id, epoch, value)
        if reached is None or self.runs_whole(trial_id):
            return str(TrialScheduler.CONTINUE)
        self.searcher.pause(trial_id)
        return str(TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The paused trial that is promoted now; the same one until it runs."""
        if self.room is not None:
            self._make_room(tune_controller, self.room)
        if self._chosen is not None and self._chosen.status in (Trial.PENDING, Trial.PAUSED):
            return self._chosen
        self._chosen = None
        searcher = self.searcher
        if searcher.max_concurrent and len(searcher.running) >= searcher.max_concurrent:
            return None
        trial_id = searcher.next_promotion()
        if trial_id is None:
            if searcher.is_idle():
                self._stop_paused(tune_controller)
            return None
        trial = self._trials.get(trial_id)
        if trial is None or trial.status != Trial.PAUSED:
            return None  # of an earlier session: the searcher hands it out; or still saving
        searcher.promote(trial_id)
        self._chosen = trial
        return trial

    def _make_room(self, tune_controller: Any, room: Room) -> None:
        """End the least promising that wait, while their checkpoints take too much."""
        rungs = self.searcher.rungs
        while room.crowded(rungs.paused):
            trial_id = rungs.least_promising()
            if trial_id is None:
                return
            trial = self._trials.get(trial_id)
            if trial is None:  # of an earlier session
                self.searcher.end(trial_id, "stopped")
                room.end(trial_id, "stopped")
            elif trial.status == Trial.PAUSED:
                tune_controller.stop_trial(trial)
            else:
                return  # still saving

    def _stop_paused(self, tune_controller: Any) -> None:
        """The search is over: what still waits has lost."""
        for trial_id in sorted(self.searcher.rungs.paused):
            trial = self._trials.get(trial_id)
            if trial is not None and trial.status == Trial.PAUSED:
                tune_controller.stop_trial(trial)


def project_id(trial: Trial) -> str:
    """The project's own id of a Ray trial (`t0003`), which outlives Ray's."""
    return str(trial.config["_trial_id"])


def make_scheduler(searcher: AshaSearcher, room: Room | None = None) -> PlainScheduler:
    """The scheduler that belongs to a searcher; the two share the searcher's `rungs`."""
    if searcher.scheduler == "promoting":
        return PromotingScheduler(searcher, room)
    return AshaScheduler(searcher) if searcher.scheduler == "asha" else PlainScheduler(searcher)

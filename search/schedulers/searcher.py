"""The searcher: Ray Tune asks it for configurations, a sampler proposes them.

It keeps its own account of every trial, so that samplers are told truthfully what ASHA did.
A resumed search is a new searcher, fed with the records of the ledger.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.samplers import BaseSampler
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from search.records.statuses import BAD, UNFINISHED, Status, is_diverged
from search.samplers.candidates import Candidates
from search.samplers.sampler import Exhausted
from search.samplers.trial import Mode, Record, SearchTrial, trial_of
from search.schedulers.rungs import Rungs
from search.schedulers.stateless import StatelessSearcher
from search.schedulers.verdict import Judge, NoRetries, Verdict, Waiting
from search.schedulers.whole import WholeBudget
from search.study.choices import REDUCTION_FACTOR, SAMPLER, SCHEDULER, check_scheduler_name
from search.study.rung_levels import rung_levels
from search.study.space import Space, check_space


class AshaSearcher(StatelessSearcher):
    """Hands out exactly `num_samples` distinct trials, those of earlier sessions included.

    Each suggestion is the configuration plus `_trial_id` (t0000 is the baseline), `_origin`
    (baseline, user, warm_start or sampler), `_resume_from` (a checkpoint or None) and `_audited`.
    """

    def __init__(
        self,
        space: Space,
        *,
        metric: str,
        mode: Mode,
        num_samples: int,
        num_epochs: int,
        scheduler: str = SCHEDULER,
        grace_period: int | None = None,
        reduction_factor: float = REDUCTION_FACTOR,
        whole: WholeBudget | None = None,
        baseline: Mapping[str, Any] | None = None,
        enqueue: Sequence[tuple[Mapping[str, Any], str]] = (),
        seed: int = 0,
        sampler: str | BaseSampler = SAMPLER,
        past: Sequence[Record] = (),
        warm: Sequence[Record] = (),
        max_concurrent: int | None = None,
        slots: Callable[[], int] | None = None,
        last_checkpoint: Callable[[str], str | None] = lambda trial_id: None,
        judge: Judge | None = None,
    ) -> None:
        """`past` are this search's own trials, `warm` those of others: for the sampler only.

        `enqueue` holds complete configurations with their origin, tried after the baseline.
        `slots` tells how many trials there is room for now: so many and one more, which waits for
        the next one to end, are handed out; or `max_concurrent`, or without either all.
        `last_checkpoint` finds what a trial that `judge` has tried again goes on from.
        `whole` says which trials run to their last epoch whatever their rank.
        """
        super().__init__(metric=metric, mode=mode)
        check_space(space)
        self.space = space
        self.num_samples = num_samples
        self.num_epochs = num_epochs
        self.max_concurrent = max_concurrent
        self.slots = slots
        self.scheduler = check_scheduler_name(scheduler)
        self.last_checkpoint = last_checkpoint
        self.judge = judge or NoRetries()
        self.whole = whole or WholeBudget()
        levels = rung_levels(num_epochs, grace_period, reduction_factor)
        self.rungs = Rungs(levels, reduction_factor, mode, pausing=scheduler == "promoting")
        self._take_up(past, warm)
        self._candidates = Candidates(
            space,
            sampler,
            mode,
            (*levels, num_epochs),
            seed=[seed, len(self.trials)],
            given=[*([(baseline, "baseline")] if baseline is not None else []), *enqueue],
            tried=[trial.config for trial in self.trials.values()],
        )

    def _take_up(self, past: Sequence[Record], warm: Sequence[Record]) -> None:
        """The account of all trials as the ledger left it; nothing runs yet."""
        self.trials = {record.trial_id: trial_of(record, self.metric) for record in past}
        self.warm = [trial_of(record, self.metric) for record in warm]
        self.rungs.replay(self.trials.values(), self.whole.among(self.trials.values()))
        self.running: set[str] = set()
        self.exhausted: str | None = None
        """Why nothing new will be tried although `num_samples` would allow it."""
        self.alone: list[Trial] = []
        """Ray's objects of the trials that want a GPU of their own."""
        self._alone: set[str] = set()
        self._verdicts: dict[str, Verdict] = {}
        self._project_ids: dict[str, str] = {}
        numbered = map("t{:04d}".format, itertools.count())
        self._new_ids = (name for name in numbered if name not in self.trials)
        self._unfinished = Waiting(
            trial_id
            for trial_id, trial in self.trials.items()
            if trial.status in UNFINISHED and trial_id not in self.rungs.paused
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Ray's trial id, None (not now), or FINISHED."""
        room = self._room()
        if room < 1 or (room < 2 and self._promotion_waits()):
            return None
        held = self._unfinished and self.judge.troubled()
        trial = self._again() or self._returning() or (None if held else self._new())
        if trial is None:
            waits = self._unfinished and not self.judge.over()
            return None if self.running or self.rungs.paused or waits else Searcher.FINISHED
        trial.status = "running"
        self.running.add(trial.trial_id)
        self._project_ids[trial_id] = trial.trial_id
        return {
            **trial.config,
            "_trial_id": trial.trial_id,
            "_origin": trial.origin,
            "_resume_from": trial.checkpoint,
            "_alone": trial.trial_id in self._alone,
            "_audited": trial.audited,
        }

    def _room(self) -> float:
        """How many trials may be handed out now.

        0 while one waits for a GPU of its own: the next to start would take a part of it.
        """
        if any(trial.status == Trial.PENDING for trial in self.alone):
            return 0
        if self.max_concurrent:
            return self.max_concurrent - len(self.running)
        return self.slots() + 1 - len(self.running) if self.slots else math.inf

    def _promotion_waits(self) -> bool:
        """Whether the next place belongs to a paused trial, which the scheduler starts itself."""
        promotable = self.rungs.promotable()
        return promotable is not None and promotable not in self._strangers()

    def _strangers(self) -> set[str]:
        """Paused trials of an earlier session, which Ray does not know."""
        return self.rungs.paused - set(self._project_ids.values())

    def _again(self) -> SearchTrial | None:
        """A trial that an earlier session left unfinished, or that is tried again."""
        return self.trials.get(self._unfinished.take() or "")

    def _returning(self) -> SearchTrial | None:
        """A trial that an earlier session paused, and that is promoted now."""
        strangers = self._strangers()
        if not strangers:
            return None
        chosen = self.next_promotion()
        if chosen is None and self.is_idle():
            for trial_id in strangers:
                self.end(trial_id, "stopped")
        if chosen not in strangers:
            return None
        self.rungs.promote(chosen)
        return self.trials[chosen]

    def next_promotion(self) -> str | None:
        """The paused trial to run next: a promotable one; when all is done, the leader."""
        return self.rungs.promotable() or (self.rungs.leader() if self.is_idle() else None)

    def is_idle(self) -> bool:
        """Nothing runs and nothing new will come."""
        new = not self.exhausted and len(self.trials) < self.num_samples
        return not (self.running or self._unfinished or new)

    def _new(self) -> SearchTrial | None:
        """A trial that has not been tried before, while the budget lasts."""
        if self.exhausted or len(self.trials) >= self.num_samples:
            return None
        try:
            new = self._candidates.next([*self.warm, *self.trials.values()])
        except Exhausted as reason:
            self.exhausted = str(reason)
            return None
        trial = SearchTrial(next(self._new_ids), new.config, new.origin, sampler_attrs=new.attrs)
        self.trials[trial.trial_id] = trial
        self.whole.draw(trial)
        return trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ray: an epoch that did not end the trial."""
        self._note(self.trials[self._project_ids[trial_id]], result)

    def _note(self, trial: SearchTrial, result: Mapping[str, Any]) -> None:
        """Keep a finite value at its epoch."""
        if self.metric in result and not is_diverged(result, self.metric):
            trial.values[int(result["epoch"])] = float(result[self.metric])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Ray: the end of a trial, for whatever reason."""
        project_id = self._project_ids.pop(trial_id)
        bad = result is not None and is_diverged(result, self.metric)
        self._note(self.trials[project_id], result or {})
        if error:
            return self._act(project_id, self._verdicts.pop(trial_id, Verdict("failed", "")))
        full = self.trials[project_id].epoch >= self.num_epochs
        self.end(project_id, "diverged" if bad else "completed" if full else "stopped")

    def on_error(self, trial: Trial) -> None:
        """The scheduler: a Ray trial ended with an error; `on_trial_complete` follows."""
        self._verdicts[trial.trial_id] = self.judge.judge(trial)

    def _act(self, project_id: str, verdict: Verdict) -> None:
        """End a trial that met an error, or hand it out once more from its last checkpoint."""
        self.end(project_id, verdict.status or "lost")
        if verdict.status is None:
            self.trials[project_id].checkpoint = self.last_checkpoint(project_id)
            self._alone |= {project_id} if verdict.alone else set()
            return self._unfinished.add(project_id, verdict.not_before)
        self.rungs.drop(project_id, bad=True)  # nor is a lost one finished as the leader

    def end(self, project_id: str, status: Status) -> None:
        """Note the end of a trial."""
        self.trials[project_id].status = status
        self.running.discard(project_id)
        self.rungs.drop(project_id, bad=status in BAD)

    def pause(self, project_id: str) -> None:
        """The scheduler pauses a trial at a rung."""
        self.trials[project_id].status = "paused"
        self.running.discard(project_id)
        self.rungs.pause(project_id)

    def promote(self, project_id: str) -> None:
        """The scheduler lets a paused trial go on."""
        self.trials[project_id].status = "running"
        self.running.add(project_id)
        self.rungs.promote(project_id)

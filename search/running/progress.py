"""How far a running search is: its best and running trials, counts, epochs saved, time left."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator

from search.records.best import BASELINE, Scored, rank, score
from search.records.ledger import TrialRecord
from search.records.statuses import BAD, FINISHED
from search.text import compact, duration, plain

SHOWN_BEST = 5


class Progress:
    """Works off the ledger's records, which change under it."""

    def __init__(
        self,
        records: dict[str, TrialRecord],
        metric: str,
        mode: str,
        num_samples: int,
        num_epochs: int,
        expected_epochs: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`expected_epochs` are those of all trials together; `clock` gives seconds."""
        self.records = records
        self.metric = metric
        self.mode = mode
        self.num_samples = max(num_samples, len(records))  # `confirm` keeps the runs of other plans
        self.num_epochs = num_epochs
        self.expected_epochs = expected_epochs
        self.clock = clock
        self.begun = clock()
        self.epochs_before = sum(record.epochs for record in records.values())
        self.ours: set[str] = set()
        """Trials that this session has started."""
        self.best: dict[str, Scored] = {}
        for record in records.values():
            self.note_best(record)

    def note_best(self, record: TrialRecord) -> None:
        """Keep the trial's best value of the metric."""
        scored = score(record, self.metric, self.mode)
        if scored is not None:
            self.best[record.trial_id] = scored

    def line(self, record: TrialRecord) -> str:
        """A finished trial on one line."""
        parts = [
            f"{record.trial_id} {record.status} at epoch {record.epochs}/{self.num_epochs}",
            f"{self.metric} {self.value(record)}",
            duration(record.seconds),
            plain(record.error) if record.error else self.settings(record),
        ]
        return ", ".join(part for part in parts if part)

    def value(self, record: TrialRecord) -> str:
        """The trial's best value of the metric."""
        return f"{self.best[record.trial_id].value:.4f}" if record.trial_id in self.best else "-"

    def settings(self, record: TrialRecord) -> str:
        """What the trial does otherwise than the baseline."""
        if record.trial_id == BASELINE:
            return "baseline"
        known = self.records[BASELINE].config if BASELINE in self.records else {}
        return " ".join(
            f"{plain(key)}={plain(compact(value))}"
            for key, value in record.config.items()
            if key not in known or known[key] != value
        )

    def leaders(self) -> Iterator[TrialRecord]:
        """The best sound trials so far, best first."""
        sound = (scored for scored in self.best.values() if scored.record.status not in BAD)
        best = heapq.nsmallest(SHOWN_BEST, sound, key=lambda s: rank(s, self.mode))
        return (scored.record for scored in best)

    def running(self) -> list[TrialRecord]:
        """The trials that run now (what a dead driver left as running does not)."""
        return [r for r in self.records.values() if self.status(r) == "running"]

    def status(self, record: TrialRecord) -> str:
        """The record's status; unfinished trials of an earlier session wait."""
        if record.status == "running" and record.trial_id not in self.ours:
            return "waiting"
        return "waiting" if record.status in ("paused", "lost") else record.status

    def ended(self) -> int:
        """Number of finished trials."""
        return sum(record.status in FINISHED for record in self.records.values())

    def counts(self) -> str:
        """How many trials there are of each status."""
        counted = Counter(self.status(record) for record in self.records.values())
        return ", ".join(f"{count} {status}" for status, count in counted.most_common())

    def saved(self) -> str:
        """The epochs that stopped trials have not trained; a paused one may yet train its own."""
        ended = [r for r in self.records.values() if r.status in FINISHED]
        stopped = [r for r in ended if r.status == "stopped"]
        epochs = sum(max(0, self.num_epochs - record.epochs) for record in stopped)
        if not epochs:
            return "no epochs saved yet"
        share = epochs / (len(ended) * self.num_epochs)
        return f"{epochs} epochs saved by early stopping ({share:.0%})"

    def left(self) -> str:
        """A rough estimate of the time left, at the pace of this session's epochs so far.

        To come is what the rungs let expect of all trials together, less what has been trained; at
        least an epoch of each trial that runs or has not begun.
        """
        trained = sum(record.epochs for record in self.records.values())
        done = trained - self.epochs_before
        if done <= 0:
            return "time left unknown yet"
        least = len(self.running()) + max(0, self.num_samples - len(self.records))
        to_come = max(self.expected_epochs - trained, least)
        pace = (self.clock() - self.begun) / done
        return f"about {duration(to_come * pace)} left"

    def elapsed(self) -> str:
        """Wall time of this session."""
        return duration(self.clock() - self.begun)

    def summary(self) -> str:
        """The whole state on one line."""
        leader = next(self.leaders(), None)
        best = (
            f"best {leader.trial_id} {self.metric} {self.value(leader)}"
            if leader
            else "no score yet"
        )
        state = f"{self.ended()}/{self.num_samples} trials ended ({self.counts()})"
        left = self.left() if self.ended() < self.num_samples else "done"
        return f"{state}; {best}; {self.elapsed()}, {left}; {self.saved()}"

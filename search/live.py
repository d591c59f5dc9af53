"""The live view of a running search: one steady table on a terminal, sparse lines in a pipe.

A Tune callback that works off the ledger's records (its recorder runs before it). A failing
callback would kill the search, so nothing here raises: the view switches itself off instead.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.knobs import compact, duration
from search.ledger import FINISHED, TrialRecord
from search.table_text import TONES, plain
from search.trials import BASELINE

REDRAW_PERIOD = 0.5  # seconds between two redraws of the table
SUMMARY_PERIOD = 60.0  # seconds between two summaries in a pipe
SHOWN_BEST = 5
STYLES = {"1;32": "bold green", "36": "cyan", "31": "red", "2": "dim", "": ""}

F = TypeVar("F", bound=Callable[..., None])


def harmless(method: F) -> F:
    """A hook that switches the view off instead of raising."""

    @wraps(method)
    def guarded(self: LiveView, *args: Any, **info: Any) -> None:
        if self.console is None:
            return
        try:
            method(self, *args, **info)
        except Exception as error:
            self.switch_off(error)

    return guarded  # type: ignore[return-value]


class LiveView(Callback):  # type: ignore[misc]
    """Shows best and running trials, counts by status, time, and epochs saved by stopping."""

    def __init__(
        self,
        ledger_records: dict[str, TrialRecord],
        metric: str,
        mode: str,
        num_samples: int,
        num_epochs: int,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds; the records are the ledger's and change under the view."""
        self.records = ledger_records
        self.metric = metric
        self.mode = mode
        self.num_samples = num_samples
        self.num_epochs = num_epochs
        self.console: Console | None = console
        self.clock = clock
        self.begun = self.shown = clock()
        self.epochs_before = sum(record.epochs for record in ledger_records.values())
        self.ours: set[str] = set()
        self.machines: set[str] = set()
        self.best: dict[str, tuple[float, int]] = {}
        self.screen: Live | None = None
        for record in ledger_records.values():
            self.note_best(record)

    @harmless
    def setup(self, *args: Any, **info: Any) -> None:
        """The search begins."""
        if self.console is not None and self.console.is_terminal:
            self.screen = Live(console=self.console, auto_refresh=False, transient=True)
            self.screen.start()

    @harmless
    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial begins or goes on."""
        self.ours.add(trial.config["_trial_id"])

    @harmless
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch ended."""
        record = self.records[trial.config["_trial_id"]]
        self.note_best(record)
        self.note_machine(record)

    @harmless
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial ended by itself or by the scheduler."""
        self.on_end(trial.config["_trial_id"])

    @harmless
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial's process died for good."""
        self.on_end(trial.config["_trial_id"])

    @harmless
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Redraw, or write a summary, when it is time to."""
        period = SUMMARY_PERIOD if self.screen is None else REDRAW_PERIOD
        if self.clock() - self.shown < period:
            return
        self.shown = self.clock()
        if self.screen is None:
            self.say(self.summary())
        else:
            self.screen.update(self.picture(), refresh=True)

    @harmless
    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The search is over."""
        self.stop()

    def stop(self) -> None:
        """Give the terminal back and write the last summary; a second call does nothing."""
        if self.console is None:
            return
        with contextlib.suppress(Exception):
            if self.screen is not None:
                self.screen.stop()
            self.say(self.summary())
        self.screen = self.console = None

    def switch_off(self, error: Exception) -> None:
        """Go on without a view, and say so once."""
        console, screen = self.console, self.screen
        self.console = self.screen = None
        with contextlib.suppress(Exception):
            if screen is not None:
                screen.stop()
            if console is not None:
                text = f"live view off ({type(error).__name__}: {error}); the search goes on"
                console.print(plain(text), markup=False)

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles callbacks; a copy shows nothing."""
        return {**self.__dict__, "console": None, "screen": None, "records": {}}

    def note_best(self, record: TrialRecord) -> None:
        """Keep the trial's best value of the metric and its epoch."""
        epoch = record.best_epoch(self.metric, self.mode)
        if epoch is not None:
            self.best[record.trial_id] = (record.history[epoch][self.metric], epoch)

    def note_machine(self, record: TrialRecord) -> None:
        """Say once how trials compute, for each kind of machine that they run on."""
        if "precision" not in record.facts:
            return
        facts = {"threads": 1, "path": "images", **record.facts}
        threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
        how = f"{facts['device']} in {facts['precision']}, {threads}, from {facts['path']}"
        text = f"trials compute on {how}"
        if text not in self.machines:
            self.machines.add(text)
            self.say(text)

    def on_end(self, trial_id: str) -> None:
        """In a pipe, one line for a trial that ended."""
        record = self.records.get(trial_id)
        if record is not None and self.screen is None:
            self.say(self.line(record))

    def say(self, text: str) -> None:
        """Print one plain line."""
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

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
        return f"{self.best[record.trial_id][0]:.4f}" if record.trial_id in self.best else "-"

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
        """The best trials so far, best first."""
        sign = -1 if self.mode == "max" else 1
        nearest = heapq.nsmallest(SHOWN_BEST, self.best.items(), key=lambda item: sign * item[1][0])
        return (self.records[trial_id] for trial_id, _ in nearest)

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
        """The epochs that stopped and paused trials have not trained, so far."""
        settled = [r for r in self.records.values() if r.status in FINISHED or r.status == "paused"]
        early = [r for r in settled if r.status in ("stopped", "paused")]
        epochs = sum(max(0, self.num_epochs - record.epochs) for record in early)
        if not epochs:
            return "no epochs saved yet"
        share = epochs / (len(settled) * self.num_epochs)
        return f"{epochs} epochs saved by early stopping ({share:.0%})"

    def left(self) -> str:
        """A rough estimate of the time left, from the epochs that trials have taken so far."""
        pausing = [r for r in self.records.values() if self.status(r) != "running" and r.epochs]
        done = sum(r.epochs for r in self.records.values()) - self.epochs_before
        elapsed = self.clock() - self.begun
        if not pausing or done <= 0:
            return "time left unknown yet"
        mean = sum(r.epochs for r in pausing) / len(pausing)
        to_come = max(0, self.num_samples - len(self.records)) * mean
        to_come += sum(max(1.0, mean - record.epochs) for record in self.running())
        return f"about {duration(to_come * elapsed / done)} left"

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

    def picture(self) -> Group:
        """The table with its head and foot, within the terminal's width and height."""
        assert self.console is not None
        head = f"{self.ended()}/{self.num_samples} trials ended, {self.elapsed()}, {self.left()}"
        room = max(1, self.console.height - SHOWN_BEST - 8)
        running = self.running()
        table = Table(box=None, expand=True, padding=(0, 1), header_style="bold", pad_edge=False)
        for name in ("trial", "status"):
            table.add_column(name, no_wrap=True)
        for name in ("epoch", self.metric, "time"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("unlike the baseline", no_wrap=True, overflow="ellipsis", ratio=1)
        for record in self.leaders():
            self.add_row(table, record, "best" if not table.rows else "")
        table.add_section()
        if table.rows and running:
            table.add_row(Text("running", style="bold"))
        for record in running[:room]:
            self.add_row(table, record, "")
        foot = [self.counts(), self.saved()]
        if len(running) > room:
            foot.insert(0, f"and {len(running) - room} more running")
        return Group(Text(head, style="bold"), table, *(Text(line) for line in foot))

    def add_row(self, table: Table, record: TrialRecord, mark: str) -> None:
        """One trial: a running one with its last epoch's value, others with their best."""
        status = self.status(record)
        epoch, value = f"{record.epochs}/{self.num_epochs}", self.value(record)
        if status == "running" and record.history:
            last = record.history[record.epochs].get(self.metric, math.nan)
            value = f"{last:.4f}"
        codes = TONES["best"] if mark else TONES.get(status, "")
        codes = TONES["baseline"] if record.trial_id == BASELINE and not mark else codes
        cells = [record.trial_id, status, epoch, value, duration(record.seconds)]
        texts = [Text(cell) for cell in [*cells, self.settings(record)]]
        table.add_row(*texts, style=STYLES[codes])

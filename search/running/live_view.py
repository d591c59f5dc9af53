"""The live view of a running search: one steady table on a terminal, sparse lines in a pipe.

A Tune callback that works off the ledger's records (its recorder runs before it).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.records.best import BASELINE
from search.records.ledger import TrialRecord
from search.running.harmless import Watcher, harmless
from search.running.progress import SHOWN_BEST, Progress
from search.schedulers.asha import project_id
from search.text import TONES, duration, plain

REDRAW_PERIOD = 0.5  # seconds between two redraws of the table
SUMMARY_PERIOD = 60.0  # seconds between two summaries in a pipe
STYLES = {"1;32": "bold green", "36": "cyan", "31": "red", "2": "dim", "": ""}


class LiveView(Watcher):
    """Shows best and running trials, counts by status, time, and epochs saved by stopping."""

    def __init__(
        self,
        ledger_records: dict[str, TrialRecord],
        metric: str,
        mode: str,
        num_samples: int,
        num_epochs: int,
        expected_epochs: float,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds; the records are the ledger's and change under the view."""
        self.progress = Progress(
            ledger_records, metric, mode, num_samples, num_epochs, expected_epochs, clock
        )
        self.console: Console | None = console
        self.clock = clock
        self.shown = clock()
        self.machines: set[str] = set()
        self.screen: Live | None = None

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
        self.progress.ours.add(project_id(trial))

    @harmless
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch ended."""
        record = self.progress.records[project_id(trial)]
        self.progress.note_best(record)
        self.note_machine(record)

    @harmless
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial ended by itself or by the scheduler."""
        self.on_end(project_id(trial))

    @harmless
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial met an error: it failed, is lost, or is tried again."""
        self.on_end(project_id(trial))

    @harmless
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Redraw, or write a summary, when it is time to."""
        period = SUMMARY_PERIOD if self.screen is None else REDRAW_PERIOD
        if self.clock() - self.shown < period:
            return
        self.shown = self.clock()
        if self.screen is None:
            self.say(self.progress.summary())
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
            self.say(self.progress.summary())
        self.screen = self.console = None

    def is_off(self) -> bool:
        """Whether the view is stopped."""
        return self.console is None

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
        return {**self.__dict__, "console": None, "screen": None, "progress": None}

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
        record = self.progress.records.get(trial_id)
        if record is None or self.screen is not None:
            return
        again = record.status in ("running", "paused") and bool(record.restarts)
        text = f"{trial_id} is tried again: {plain(record.restarts[-1])}" if again else None
        self.say(text or self.progress.line(record))

    def say(self, text: str) -> None:
        """Print one plain line."""
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def picture(self) -> Group:
        """The table with its head and foot, within the terminal's width and height."""
        assert self.console is not None
        now = self.progress
        head = f"{now.ended()}/{now.num_samples} trials ended, {now.elapsed()}, {now.left()}"
        room = max(1, self.console.height - SHOWN_BEST - 8)
        running = now.running()
        table = Table(box=None, expand=True, padding=(0, 1), header_style="bold", pad_edge=False)
        for name in ("trial", "status"):
            table.add_column(name, no_wrap=True)
        for name in ("epoch", now.metric, "time"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("unlike the baseline", no_wrap=True, overflow="ellipsis", ratio=1)
        for record in now.leaders():
            self.add_row(table, record, "best" if not table.rows else "")
        table.add_section()
        if table.rows and running:
            table.add_row(Text("running", style="bold"))
        for record in running[:room]:
            self.add_row(table, record, "")
        foot = [now.counts(), now.saved()]
        if len(running) > room:
            foot.insert(0, f"and {len(running) - room} more running")
        return Group(Text(head, style="bold"), table, *(Text(line) for line in foot))

    def add_row(self, table: Table, record: TrialRecord, mark: str) -> None:
        """One trial: a running one with its last epoch's value, others with their best."""
        status = self.progress.status(record)
        epoch, value = f"{record.epochs}/{self.progress.num_epochs}", self.progress.value(record)
        if status == "running" and record.history:
            last = record.history[record.epochs].get(self.progress.metric, math.nan)
            value = f"{last:.4f}"
        codes = TONES["best"] if mark else TONES.get(status, "")
        codes = TONES["baseline"] if record.trial_id == BASELINE and not mark else codes
        cells = [record.trial_id, status, epoch, value, duration(record.seconds)]
        texts = [Text(cell) for cell in [*cells, self.progress.settings(record)]]
        table.add_row(*texts, style=STYLES[codes])

"""TensorBoard event files of a search, derived from the ledger's records like the tables.

    tensorboard --logdir results/digits/first/tensorboard

Ray's own logger knows neither the project's trial ids nor the epochs of a resumed trial. A folder
a trial holds its metrics over epochs and, once it has ended, what the hparams tab shows.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import hparams, scalar

from search.records.ledger import TrialRecord
from search.running.harmless import Watcher, harmless
from search.schedulers.asha import project_id

PERIOD = 20.0  # seconds between two looks at the trials that run


class TensorBoard(Watcher):
    """Writes what is new of each trial: when it ends, and from time to time while it runs.

    It writes the folder afresh when the search begins. Errors (a full disk) switch it off.
    """

    def __init__(
        self,
        records: Mapping[str, TrialRecord],
        folder: Path,
        metric: str,
        mode: str,
        notice: Callable[[str], None],
    ) -> None:
        """`records` are the ledger's, and change under the callback; `notice` says one line."""
        self.records = records
        self.folder = folder
        self.metric = metric
        self.mode = mode
        self.notice = notice
        self.written: dict[str, int] = {}
        self.finished: set[str] = set()
        self.files = 0
        self.looked = time.monotonic()

    @harmless
    def setup(self, *args: Any, **info: Any) -> None:
        """The search begins: what earlier sessions left is written again, from the ledger."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.write_all()

    @harmless
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial ended."""
        self.write(self.records[project_id(trial)])

    @harmless
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial's process died for good."""
        self.write(self.records[project_id(trial)])

    @harmless
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look at the running trials from time to time."""
        if time.monotonic() - self.looked > PERIOD:
            self.write_all()
            self.looked = time.monotonic()

    @harmless
    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The search is over."""
        self.write_all()

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles callbacks; a copy writes nothing."""
        return {"notice": None}

    def write_all(self) -> None:
        """Write what is new of every trial."""
        for record in self.records.values():
            self.write(record)

    def write(self, record: TrialRecord) -> None:
        """Write the trial's new epochs into a file of their own, and its end once."""
        after = self.written.get(record.trial_id, 0)
        ended = record.ended is not None and record.trial_id not in self.finished
        events = [*epoch_events(record, after), *(self.end_events(record) if ended else [])]
        if not events:
            return
        folder = self.folder / record.trial_id
        folder.mkdir(parents=True, exist_ok=True)
        self.files += 1
        writer = EventsWriter(str(folder / "events"), f".{self.files:06d}")
        for event in events:
            writer.write_event(event)
        writer.close()
        self.written[record.trial_id] = record.epochs
        if ended:
            self.finished.add(record.trial_id)

    def end_events(self, record: TrialRecord) -> list[Event]:
        """The best value, and the configuration for the hparams tab."""
        tag = f"best/{self.metric}"
        epoch = record.best_epoch(self.metric, self.mode)
        config = {name: plain(value) for name, value in record.config.items()}
        config |= {"status": record.status, "origin": record.origin}
        summaries = list(hparams(config, {tag: None}))
        if epoch is not None:
            summaries.append(scalar(tag, record.history[epoch][self.metric]))
        when = record.ended or record.started
        return [Event(wall_time=when, step=epoch or 0, summary=summary) for summary in summaries]


def epoch_events(record: TrialRecord, after: int) -> list[Event]:
    """The metrics of the epochs after one, each at about the time it was reported."""
    events, when = [], record.started
    for epoch, metrics in sorted(record.history.items()):
        when += metrics.get("seconds", 0.0)
        if epoch <= after:
            continue
        for name, value in metrics.items():
            if math.isfinite(value):
                events.append(Event(wall_time=when, step=epoch, summary=scalar(name, value)))
    return events


def plain(value: Any) -> Any:
    """A knob's value as the hparams tab can hold it."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)

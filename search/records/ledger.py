"""The search's own append-only record, `ledger.jsonl`: what resume, tables and reports derive from.

Ray's saved experiment state loses what happened after its last snapshot and cannot be extended, so
a Tune callback on the driver writes one JSON line for each thing that happens:

    {"event": "session", "time": .., "num_samples": ..}              a driver begins or resumes
    {"event": "start", "trial": "t0003", "time": .., "config": {..}, "origin": "sampler"}
        and "audited": true if it was drawn to run to its end whatever its rank
    {"event": "report", "trial": "t0003", "time": .., "metrics": {"epoch": 1, "valid_acc": .., ..}}
    {"event": "checkpoint", "trial": "t0003", "time": .., "epoch": 1, "path": ".."}
    {"event": "pause", "trial": "t0003", "time": ..}                 promoting ASHA waits at a rung
    {"event": "restart", "trial": "t0003", "time": .., "error": "..."}  its process or node died
    {"event": "end", "trial": "t0003", "time": .., "status": "completed", "error": null}

A line is one `write`, so a killed driver leaves at most one torn line, which is passed over. Each
line also has a number and a checksum (`sealed.py`): what was changed or lost since is told.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.files import printable
from search.records.metric import oriented
from search.records.sealed import SealedFile, seal
from search.records.statuses import FINISHED, Status
from trainables.schedule import ends_low

LEDGER = "ledger.jsonl"
TRIAL_ID = re.compile(r"t\d{4,9}", re.ASCII)
ENDS = FINISHED | {"lost"}
NUMBERS = {int, float}
MOST_EPOCHS = 2**31
METRICS = (
    *("train_loss", "valid_loss", "valid_acc", "lr", "seconds", "averaged"),
    *("weights_valid_loss", "weights_valid_acc", "average_valid_loss", "average_valid_acc"),
)
"""`valid_*` are those of the epoch's model: `averaged` tells if that is the moving average."""


@dataclass
class TrialRecord:
    """All that is known of one trial; `history` maps an epoch (from 1) to its reported metrics."""

    trial_id: str
    config: dict[str, Any]
    origin: str = "sampler"
    status: Status = "running"
    error: str | None = None
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    checkpoint: str | None = None
    checkpoint_epoch: int = 0
    started: float = 0.0
    ended: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)
    """What ended its process each time that it was started again from its last checkpoint."""
    audited: bool = False
    """Drawn to run to its last epoch whatever its rank."""

    @property
    def number(self) -> int:
        """Position in the search, from 0 (the baseline): the digits of `trial_id`."""
        return int(self.trial_id[1:])

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.history, default=0)

    @property
    def seconds(self) -> float:
        """Time spent in the epochs that count (a repeated epoch counts once)."""
        return sum(metrics.get("seconds", 0.0) for metrics in self.history.values())

    def best_epoch(self, metric: str, mode: str) -> int | None:
        """The epoch that the trial counts by: one with a finite value of the metric.

        The last one, where the training is complete and its learning rate ends low; else the one
        with the best value, the latest among equals.
        """
        if self.status == "completed" and ends_low(self.config):
            last = self.history.get(self.epochs, {})
            if math.isfinite(last.get(metric, math.nan)):
                return self.epochs
        best, leading = None, -math.inf
        for epoch in sorted(self.history):
            score = oriented(self.history[epoch].get(metric, math.nan), mode)
            if score >= leading and math.isfinite(score):
                best, leading = epoch, score
        return best


class Ledger:
    """Appends events; also keeps the records they amount to, so that nothing is read twice.

    `persist` calls the function that brings lines to the disk, and may call it again after an
    OSError: what could not be written stays in the buffer, and follows without a gap.
    """

    def __init__(
        self, path: Path, persist: Callable[[Callable[[], None]], None] = lambda write: write()
    ) -> None:
        self.path = path
        self.persist = persist
        self.damage: list[str] = []
        """What of the file could not be used, a line each."""
        self.records: dict[str, TrialRecord] = {}
        self.count = replay(path, self.records, self.damage)
        """The number of the last line."""
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def append(self, event: str, trial: str | None = None, **fields: Any) -> None:
        """Write one event, and apply it to `records`. On disk when a trial ends, not at each epoch.

        Raises OSError when the disk is full or gone.
        """
        entry = {
            "event": event,
            **({"trial": trial} if trial else {}),
            "time": time.time(),
            **fields,
        }
        self.count += 1
        self._file.write(seal(entry, self.count))
        self.persist(self._sync if event in ("session", "end") else self._file.flush)
        apply_event(self.records, entry)

    def _sync(self) -> None:
        """Bring all lines to the disk itself."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events in order, as far as they can be used."""
    return (entry for _, entry in SealedFile(path) if "event" in entry)


def read_ledger(
    path: Path, damage: list[str] | None = None, least: int = 0
) -> dict[str, TrialRecord]:
    """All trials, by id, in order of their first start; empty where there is no ledger yet.

    `damage` gets a line for each part of the file that could not be used, and one where the last
    line's number is not even `least`.
    """
    records: dict[str, TrialRecord] = {}
    told = [] if damage is None else damage
    count = replay(path, records, told)
    if count < least:
        told.append(f"{path}: it ends with line {count}, and had {least}: the last ones are lost")
    return records


def replay(path: Path, records: dict[str, TrialRecord], damage: list[str]) -> int:
    """Apply a file's events to `records`, tell of `damage`; the number of the last line."""
    lines = SealedFile(path)
    for place, entry in lines:
        if "event" not in entry:
            continue
        try:
            apply_event(records, entry)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            lines.tell(place, f"what it says of {entry.get('trial')} does not follow")
    damage += lines.damage
    return lines.count


def known_config(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that every table can show.

    Raises OverflowError for a whole number that is no float.
    """
    float(sum(value for value in knobs.values() if type(value) is int))
    texts = {name: printable(value) for name, value in knobs.items() if type(value) is str}
    return {**knobs, **texts}


def apply_event(records: dict[str, TrialRecord], entry: dict[str, Any]) -> None:
    """Bring `records` up to date with one event.

    Raises KeyError for one of a trial that has not started; this, TypeError or ValueError for one
    that no version has written.
    """
    trial_id = entry.get("trial")
    if trial_id is None:
        return
    if entry["event"] == "start":
        if not TRIAL_ID.fullmatch(trial_id):
            raise ValueError(f"{trial_id} is no trial")
        config, started = known_config(entry["config"]), float(entry["time"])
        fresh = TrialRecord(trial_id, config, str(entry["origin"]), started=started)
        record = records.setdefault(trial_id, fresh)
        record.audited = record.audited or bool(entry.get("audited"))
        record.status, record.ended = "running", None
        return
    record = records[trial_id]
    match entry["event"]:
        case "report":
            metrics = dict(entry["metrics"])
            if not NUMBERS.issuperset(map(type, metrics.values())):
                metrics = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
            epoch = int(metrics.pop("epoch"))
            float(sum(metrics.values()))  # OverflowError for a whole number that is no float
            if not 0 < epoch < MOST_EPOCHS:
                raise ValueError(f"{epoch} is no epoch")
            record.history[epoch] = metrics
            record.status = "running"
            if "facts" in entry:
                record.facts |= entry["facts"]
        case "checkpoint":
            path = entry["path"]
            record.checkpoint = None if path is None else str(path)
            record.checkpoint_epoch = int(entry["epoch"])
        case "restart":
            record.restarts.append(str(entry["error"]))
        case "pause":
            record.status = "paused"
        case "end":
            if entry["status"] not in ENDS:
                raise ValueError(f"{entry['status']} is no end")
            error = entry.get("error")
            record.status = entry["status"]
            record.error = None if error is None else printable(str(error))
            record.ended = float(entry["time"])

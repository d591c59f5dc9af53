"""The search's own append-only record, `ledger.jsonl`: what resume, tables and reports derive from.

Ray's saved experiment state loses what happened after its last snapshot and cannot be extended, so
a Tune callback on the driver writes one JSON line for each thing that happens:

    {"event": "session", "time": .., "num_samples": ..}              a driver begins or resumes
    {"event": "start", "trial": "t0003", "time": .., "config": {..}, "origin": "sampler"}
    {"event": "report", "trial": "t0003", "time": .., "metrics": {"epoch": 1, "valid_acc": .., ..}}
    {"event": "checkpoint", "trial": "t0003", "time": .., "epoch": 1, "path": ".."}
    {"event": "pause", "trial": "t0003", "time": ..}                 promoting ASHA waits at a rung
    {"event": "restart", "trial": "t0003", "time": .., "error": "..."}  its process or node died
    {"event": "end", "trial": "t0003", "time": .., "status": "completed", "error": null}

A line is one `write`, so a killed driver leaves at most one torn line, which is passed over.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.records.metric import oriented
from search.records.statuses import Status

LEDGER = "ledger.jsonl"
READ_LINES = 1000  # lines parsed at once
NUMBERS = {int, float}
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
        """The epoch with the best finite value of the metric, the latest among equals."""
        best, leading = None, -math.inf
        for epoch in sorted(self.history):
            score = oriented(self.history[epoch].get(metric, math.nan), mode)
            if score >= leading and math.isfinite(score):
                best, leading = epoch, score
        return best


class Ledger:
    """Appends events; also keeps the records they amount to, so that nothing is read twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = read_ledger(path)
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
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if event in ("session", "end"):
            os.fsync(self._file.fileno())
        apply_event(self.records, entry)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events in order; lines that a crash or a full disk tore are passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        while lines := list(itertools.islice(file, READ_LINES)):
            for entry in parse(lines):
                if isinstance(entry, dict) and "event" in entry:
                    yield entry


def parse(lines: list[str]) -> list[Any]:
    """The JSON values of the lines: all at once, which is quick, or one by one if one is torn."""
    with contextlib.suppress(ValueError):
        entries = json.loads(f"[{','.join(lines)}]")
        if len(entries) == len(lines):
            return list(entries)
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def read_ledger(path: Path) -> dict[str, TrialRecord]:
    """All trials, by id, in order of their first start; empty where there is no ledger yet."""
    records: dict[str, TrialRecord] = {}
    for entry in read_events(path):
        apply_event(records, entry)
    return records


def apply_event(records: dict[str, TrialRecord], entry: dict[str, Any]) -> None:
    """Bring `records` up to date with one event."""
    trial_id = entry.get("trial")
    if trial_id is None:
        return
    if entry["event"] == "start":
        fresh = TrialRecord(trial_id, entry["config"], entry["origin"], started=entry["time"])
        record = records.setdefault(trial_id, fresh)
        record.status, record.ended = "running", None
        return
    record = records[trial_id]
    match entry["event"]:
        case "report":
            metrics = dict(entry["metrics"])
            if not NUMBERS.issuperset(map(type, metrics.values())):
                metrics = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
            record.history[int(metrics.pop("epoch"))] = metrics
            record.status = "running"
            if "facts" in entry:
                record.facts |= entry["facts"]
        case "checkpoint":
            record.checkpoint, record.checkpoint_epoch = entry["path"], entry["epoch"]
        case "restart":
            record.restarts.append(entry["error"])
        case "pause":
            record.status = "paused"
        case "end":
            record.status, record.error = entry["status"], entry.get("error")
            record.ended = entry["time"]

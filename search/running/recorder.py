"""Tune callback on the driver that turns Ray's events into the ledger's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from search.cluster.storage import Storage
from search.records.ledger import METRICS, Ledger, TrialRecord
from search.records.statuses import FINISHED, Status, end_status
from search.schedulers.asha import project_id

TABLES_PERIOD = 30.0  # seconds between two writes of the tables while the search runs
FACTS = ("device", "precision", "threads", "path", "hostname", "node_ip", "num_parameters")


class Recorder(Callback):  # type: ignore[misc]
    """Turns Ray's events into the ledger's.

    `defaults` are the fixed knobs that complete a sampled configuration. `stop_reason` says why the
    whole search is being stopped, or None: trials that end with it are recorded as lost, so that a
    resume goes on with them. `on_end` is told of each trial that ended; `on_tables` writes the
    tables.
    """

    def __init__(
        self,
        ledger: Ledger,
        defaults: Mapping[str, Any],
        num_epochs: int,
        metric: str,
        stop_reason: Callable[[], str | None],
        on_end: Callable[[TrialRecord], None],
        on_tables: Callable[[], None],
        storage: Storage,
    ) -> None:
        self.ledger = ledger
        self.defaults = dict(defaults)
        self.num_epochs = num_epochs
        self.metric = metric
        self.stop_reason = stop_reason
        self.on_end = on_end
        self.on_tables = on_tables
        self.storage = storage
        self.live: dict[str, Trial] = {}
        self.errors: dict[str, str] = {}
        self.again: set[str] = set()
        self.checkpoints = {
            trial_id: record.checkpoint
            for trial_id, record in ledger.records.items()
            if record.checkpoint is not None
        }
        """Where each trial's last one lies in the storage."""
        self.tables_written = time.monotonic()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial begins, or goes on after a pause or a lost node."""
        self.begin(trial)

    def begin(self, trial: Trial) -> None:
        """Record the start of a trial."""
        trial_id = project_id(trial)
        knobs = {key: value for key, value in trial.config.items() if not key.startswith("_")}
        config = {**self.defaults, **knobs}
        self.ledger.append("start", trial_id, config=config, origin=trial.config["_origin"])
        self.live[trial_id] = trial

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch's metrics, or the error that ended the trial's code."""
        trial_id = project_id(trial)
        if "error" in result:
            self.errors[trial_id] = str(result["error"])
            if result.get("retry_alone"):
                self.again.add(trial_id)
            return
        metrics = {key: result[key] for key in ("epoch", *METRICS) if key in result}
        facts = {key: result[key] for key in FACTS if key in result}
        if facts.items() <= self.ledger.records[trial_id].facts.items():
            facts = {}
        self.ledger.append(
            "report", trial_id, metrics=metrics, **({"facts": facts} if facts else {})
        )

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """A checkpoint is safe in the storage; the one before it is of no more use."""
        trial_id = project_id(trial)
        path = self.storage.inside(checkpoint.path)
        assert path is not None, f"{checkpoint.path} is no checkpoint of {self.storage.uri}"
        superseded = self.checkpoints.get(trial_id)
        self.checkpoints[trial_id] = path
        epoch = int(trial.last_result["epoch"])  # less than was reached after a lost node
        self.ledger.append("checkpoint", trial_id, epoch=epoch, path=path)
        if superseded is not None and self.storage.inside(superseded) != path:
            self.storage.discard(superseded)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Notice pauses, for which Ray has no event, and write the tables from time to time."""
        for trial_id, trial in list(self.live.items()):
            if trial.status == Trial.PAUSED:
                self.ledger.append("pause", trial_id)
                del self.live[trial_id]
        if time.monotonic() - self.tables_written > TABLES_PERIOD:
            self.on_tables()
            self.tables_written = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial ended by itself, by the scheduler, or because the whole search is cut short."""
        trial_id = project_id(trial)
        record = self.ledger.records.get(trial_id)
        if record is None:  # cut before it started
            return
        status = end_status(record, self.num_epochs, self.metric)
        if trial_id in self.again:  # its part of a GPU was too small: it is handed out again
            self.again.remove(trial_id)
            self.ledger.append("restart", trial_id, error=self.errors.pop(trial_id))
            self.live.pop(trial_id, None)
        elif trial_id in self.errors:
            self.end(trial_id, "failed", self.errors.pop(trial_id))
        elif status != "stopped" or (reason := self.stop_reason()) is None:
            self.end(trial_id, status)
        elif record.status != "paused":  # what pauses at a rung may still be promoted on resume
            self.ledger.append("end", trial_id, status="lost", error=reason)
            self.live.pop(trial_id, None)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """The worker process died, more often than `max_failures` allows, or never came up."""
        if trial.should_recover():  # given up too early: the searcher hands it out again
            self.live.pop(project_id(trial), None)
            return
        if project_id(trial) not in self.ledger.records:
            self.begin(trial)
        self.end(project_id(trial), "failed", worker_error(trial))

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """The worker process or its node died; Ray starts the trial again from its checkpoint."""
        if project_id(trial) in self.ledger.records:
            self.ledger.append("restart", project_id(trial), error=worker_error(trial))

    def end(self, trial_id: str, status: Status, error: str | None = None) -> None:
        """Record the end of a trial and free what only a resume would have needed."""
        self.ledger.append("end", trial_id, status=status, error=error)
        self.live.pop(trial_id, None)
        checkpoint = self.checkpoints.pop(trial_id, None)
        if status == "completed" and checkpoint is not None:
            self.checkpoints[trial_id] = checkpoint
        elif checkpoint is not None:
            self.storage.discard(checkpoint)
        self.on_end(self.ledger.records[trial_id])

    def settle(self) -> None:
        """After the last event: what an ended search leaves at its rungs has lost.

        What a cut search leaves running is taken up by a resume.
        """
        reason = self.stop_reason()
        for record in list(self.ledger.records.values()):
            if record.status not in FINISHED and reason is None:
                self.end(record.trial_id, "stopped")
            elif record.status == "running":
                self.ledger.append("end", record.trial_id, status="lost", error=reason)

    def keep_only(self, trial_ids: set[str]) -> None:
        """Delete the final checkpoints of completed trials other than these."""
        for trial_id in list(self.checkpoints):
            if trial_id not in trial_ids and self.ledger.records[trial_id].status == "completed":
                self.storage.discard(self.checkpoints.pop(trial_id))

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles callbacks into its own snapshot, which nothing of ours reads."""
        return {}


def folder_name(trial: Trial) -> str:
    """Folder of a trial's checkpoints; a resumed trial gets a new one: nothing is overwritten."""
    return f"{project_id(trial)}-{trial.trial_id}"


def worker_error(trial: Trial) -> str:
    """What ended the worker process, in one line, from the file that Ray has just written to."""
    try:
        last = Path(trial.error_file).read_text().rpartition("Failure # ")[2]
    except (OSError, TypeError):
        last = ""
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()]
    cause = next((line for line in lines if " because " in line), "")
    return "worker: " + (cause or "".join(lines[:1]) or "process died")[:500]

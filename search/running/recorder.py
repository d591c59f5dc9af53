"""Tune callback on the driver that turns Ray's events into the ledger's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from search.cluster.storage import Storage
from search.records.ledger import METRICS, Ledger, TrialRecord
from search.records.statuses import FINISHED, Status, end_status
from search.running.retries import Retries, read_trouble
from search.schedulers.asha import project_id

TABLES_PERIOD = 30.0  # seconds between two writes of the tables while the search runs
FACTS = (
    "device",
    "precision",
    "threads",
    "path",
    "weights",
    "hostname",
    "node_ip",
    "num_parameters",
)


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
        retries: Retries,
        on_begin: Callable[[], None] = lambda: None,
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
        self.retries = retries
        self.on_begin = on_begin
        self.given_up: set[str] = set()
        self.checkpoints = {
            trial_id: record.checkpoint
            for trial_id, record in ledger.records.items()
            if record.checkpoint is not None
        }
        """Where each trial's last one lies in the storage."""
        self.tables_written = time.monotonic()

    def setup(self, *args: Any, **info: Any) -> None:
        """Ray Tune has set itself up and is about to begin."""
        self.on_begin()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial begins, or goes on after a pause or a lost node."""
        self.retries.begun.add(trial.trial_id)
        self.begin(trial)

    def begin(self, trial: Trial) -> None:
        """Record the start of a trial."""
        trial_id = project_id(trial)
        knobs = {key: value for key, value in trial.config.items() if not key.startswith("_")}
        config = {**self.defaults, **knobs}
        drawn = {"audited": True} if trial.config.get("_audited") else {}
        origin = trial.config["_origin"]
        self.ledger.append("start", trial_id, config=config, origin=origin, **drawn)
        self.live[trial_id] = trial

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch's metrics."""
        trial_id = project_id(trial)
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
        self.retries.went_well()
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
        if status != "stopped" or (reason := self.stop_reason()) is None:
            self.retries.went_well()
            self.end(trial_id, status)
        elif record.status != "paused":  # what pauses at a rung may still be promoted on resume
            self.lose(trial_id, reason)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """The trial raised, its worker process died, or that never came up."""
        trial_id = project_id(trial)
        verdict = self.retries.judge(trial)
        if trial_id not in self.ledger.records:
            self.begin(trial)
        if verdict.status is None:
            self.ledger.append("restart", trial_id, error=verdict.error)
            self.live.pop(trial_id, None)
        elif verdict.status == "lost":
            self.given_up.add(trial_id)
            self.lose(trial_id, verdict.error)
        else:
            self.end(trial_id, verdict.status, verdict.error)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Its node was taken away; Ray itself starts the trial again from its checkpoint."""
        if project_id(trial) in self.ledger.records:
            error = read_trouble(trial).text
            self.ledger.append("restart", project_id(trial), error=error)

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

    def lose(self, trial_id: str, reason: str) -> None:
        """Record that a trial is not finished; a resume goes on from its last checkpoint."""
        self.ledger.append("end", trial_id, status="lost", error=reason)
        self.live.pop(trial_id, None)

    def settle(self) -> None:
        """After the last event: what an ended search leaves at its rungs has lost.

        What a cut search leaves running is taken up by a resume.
        """
        reason = self.stop_reason()
        for record in list(self.ledger.records.values()):
            if record.status in FINISHED or record.trial_id in self.given_up:
                continue
            if reason is None:
                self.end(record.trial_id, "stopped")
            elif record.status == "running":
                self.lose(record.trial_id, reason)

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

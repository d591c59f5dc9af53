"""Checkpoints in the search's own storage: what a session goes on from, and what they may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from search.cluster.storage import Storage
from search.records.ledger import Ledger, TrialRecord
from search.records.statuses import UNFINISHED, Status

GIGABYTE = 1e9  # bytes
GONE = "its checkpoint is gone: it begins anew"


def begin_anew(ledger: Ledger, storage: Storage, notice: Callable[[str], None]) -> None:
    """Mark unfinished trials whose checkpoint is not in the storage as lost, without one.

    Raises OSError where the storage is out of reach: they may be there.
    """
    unfinished = [r for r in ledger.records.values() if r.status in UNFINISHED and r.checkpoint]
    gone = [r.trial_id for r in unfinished if storage.find(r.checkpoint) is None]
    for trial_id in gone:
        ledger.append("restart", trial_id, error=GONE)
        ledger.append("checkpoint", trial_id, epoch=0, path=None)
        ledger.append("end", trial_id, status="lost", error=GONE)
    if gone:
        count = f"{len(gone)} of {len(unfinished)} unfinished trials"
        notice(f"{count} begin anew: their checkpoints are not in {storage.uri}")


def located(record: TrialRecord, storage: Storage) -> TrialRecord:
    """The record with its checkpoint as a worker opens it, if there is something to go on with."""
    unfinished = record.status in UNFINISHED
    return dataclasses.replace(
        record, checkpoint=storage.find(record.checkpoint) if unfinished else None
    )


class CheckpointRoom:
    """Keeps the checkpoints of the trials that wait at a rung below `most` gigabytes."""

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        most: float,
        end: Callable[[str, Status], None],
        notice: Callable[[str], None],
    ) -> None:
        """`end` records the end of a trial and frees its checkpoint."""
        self.records = ledger.records
        self.storage = storage
        self.most = most
        self.end = end
        self.notice = notice
        self.told = False
        self.sizes: dict[str, int] = {}
        """Of each checkpoint that was asked for, in bytes."""

    def crowded(self, waiting: Iterable[str]) -> bool:
        """Whether the checkpoints of these trials take more than they may."""
        paths = (self.records[trial_id].checkpoint for trial_id in waiting)
        taken = sum(self.size(path) for path in paths if path is not None)
        crowded = taken > self.most * GIGABYTE
        if crowded and not self.told:
            self.told = True
            self.notice(
                f"the checkpoints of waiting trials take more than {self.most:g} GB"
                " (--max-checkpoints-gb): the least promising of them end here"
            )
        return crowded

    def size(self, path: str) -> int:
        """Of a checkpoint, which never changes."""
        if path not in self.sizes:
            self.sizes[path] = self.storage.size(path)
        return self.sizes[path]

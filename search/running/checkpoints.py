"""What an earlier session left to go on from, looked up in the search's own storage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from search.cluster.storage import Storage
from search.records.ledger import Ledger, TrialRecord
from search.records.statuses import UNFINISHED

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

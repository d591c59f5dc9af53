"""Warm start: what earlier searches of the same task found, for a new one to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.records.best import ranking
from search.records.ledger import TrialRecord
from search.records.search import Search, load
from search.records.statuses import FINISHED
from search.study.study import Study
from trainables.config import recorded_knobs

BEST_OF_EACH = 3  # configurations of each earlier search that are run again


def warm_start(
    dirs: Sequence[Path], study: Study
) -> tuple[list[TrialRecord], list[tuple[dict[str, Any], str]]]:
    """Finished trials of earlier searches, for the sampler, and their best configurations, to run.

    Raises UsageError for a search of another task or metric, ValueError where there is no search.
    """
    records: list[TrialRecord] = []
    enqueued: list[tuple[dict[str, Any], str]] = []
    for path in dirs:
        found = load(path)
        if (found.info.task, found.metric) != (study.task, study.metric):
            raise UsageError(
                f"--warm-start {path} is a search of {found.info.task} by {found.metric},"
                f" not of {study.task} by {study.metric}"
            )
        for record in found.records.values():
            record.config = recorded_knobs(study.config, record.config)
        records += [record for record in found.records.values() if record.status in FINISHED]
        enqueued += [(record.config, "warm_start") for record in best_trials(found)]
    return records, enqueued


def best_trials(found: Search) -> list[TrialRecord]:
    """The best trials that ran their full budget, best first."""
    completed = (record for record in found.records.values() if record.status == "completed")
    best = ranking(completed, found.metric, found.mode)[:BEST_OF_EACH]
    return [scored.record for scored in best]

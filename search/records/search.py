"""A finished, running or dead search as pandas frames and files: trials, history, best trial.

Everything is derived from the ledger and search.json; Ray is never started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.records.best import BASELINE, Scored, choose_best, ranking, score
from search.records.compared import Comparison, compare
from search.records.confirmed import Confirmed, confirm, read_runs
from search.records.folder import SEARCH_JSON, is_running
from search.records.knobs import Knob, searched_knobs
from search.records.ledger import LEDGER, TrialRecord, read_ledger
from search.records.manifest import Manifest, read_manifest
from search.records.outcomes import Outcomes, read_outcomes
from search.records.runs import Runs
from search.records.tables import history_frame, trial_frame

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Search:
    """One search: `info` is search.json, `records` the ledger's trials by id and in its order."""

    path: Path
    info: Manifest
    records: dict[str, TrialRecord]
    running: bool
    damage: tuple[str, ...] = ()
    """What of its files could not be used, a line each, with the file and its line."""
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    """What the best trials made of each image of `valid`; versions before kept nothing of it."""
    runs: Runs | None = None
    """Those of the best configurations on folds or seeds; None where they are not run again."""

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, as in trials.csv, in the order the trials were proposed."""
        return trial_frame(self.records, self.metric, self.mode, self.running)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row a trial and epoch, as in history.csv."""
        return history_frame(self.records)

    @cached_property
    def ranking(self) -> list[Scored]:
        """The trials that have a finite value of the metric, best first."""
        return ranking(self.records.values(), self.metric, self.mode)

    @cached_property
    def baseline(self) -> Scored | None:
        """The baseline with its best value; None while it has none."""
        return score(self.records.get(BASELINE), self.metric, self.mode)

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The chosen trial, as in best.json; None while no trial has a finite metric."""
        best = choose_best(self.records, self.metric, self.mode, self.confirmed)
        if best is None or self.comparison is None:
            return best
        return {**best, "compared": self.comparison.described(BASELINE)}

    @cached_property
    def confirmed(self) -> Confirmed | None:
        """What running the best configurations again has shown; None until all runs have ended."""
        return None if self.runs is None else confirm(self.runs, self.records)

    @cached_property
    def comparison(self) -> Comparison | None:
        """The chosen trial against the other completed ones on the same images, where known."""
        best = choose_best(self.records, self.metric, self.mode, self.confirmed)
        if best is None:
            return None
        order = [s.record.trial_id for s in self.ranking if s.record.status == "completed"]
        return compare(best["trial_id"], self.metric, order, self.outcomes)

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """The searched knobs with their ranges."""
        return searched_knobs(self.info.space)

    @property
    def metric(self) -> str:
        """What the search optimises: `valid_acc` or `valid_loss`."""
        return self.info.metric

    @property
    def mode(self) -> str:
        """`max` or `min`."""
        return self.info.mode

    @property
    def stop_reason(self) -> str | None:
        """Why the last session stopped before all trials had ended, None if it did not."""
        return self.info.stop_reason


def load(search_dir: str | Path) -> Search:
    """Open a search directory. Raises ValueError where there is no search in it."""
    path = Path(search_dir)
    if not (path / SEARCH_JSON).is_file():
        raise ValueError(
            f"no search in {path}: {SEARCH_JSON} is missing; name a folder results/<task>/<name>"
        )
    info = read_manifest(path)
    damage: list[str] = []
    found = read_ledger(path / LEDGER, damage, least=info.events).values()
    records = {r.trial_id: r for r in sorted(found, key=lambda record: record.number)}
    numbers = [name for name, knob in searched_knobs(info.space).items() if knob.choices is None]
    for record in list(records.values()):
        odd = [k for k in numbers if not isinstance(record.config.get(k, 0), int | float | None)]
        if odd:
            damage.append(f"{path / LEDGER}: {odd[0]} of {record.trial_id} is no number")
            del records[record.trial_id]
    outcomes = {
        trial_id: found
        for trial_id, found in read_outcomes(path, damage).items()
        if trial_id in records
        and found.epoch == records[trial_id].best_epoch(info.metric, info.mode)
    }
    runs = read_runs(path, info.metric, info.mode, damage)
    return Search(path, info, records, is_running(path), tuple(damage), outcomes, runs)

"""A finished, running or dead search as pandas frames and files: trials, history, best trial.

Everything is derived from the ledger and search.json; Ray is never started.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

from search.files import (
    SEARCH_JSON,
    is_running,
    read_json,
    replacing,
    write_json,
)
from search.knobs import Knob, searched_knobs
from search.ledger import LEDGER, METRICS, TrialRecord, read_ledger

COLUMNS = [
    "trial_id",
    "status",
    "epochs",
    "train_loss",
    "valid_loss",
    "valid_acc",
    "best_epoch",
    "seconds",
    "error",
]
HISTORY_COLUMNS = ["trial_id", "epoch", *METRICS]
BASELINE = "t0000"


@dataclass(frozen=True)
class Search:
    """One search: `info` is search.json, `records` the ledger's trials by id and in its order."""

    path: Path
    info: dict[str, Any]
    records: dict[str, TrialRecord]
    running: bool

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, as in trials.csv, in the order the trials were proposed."""
        return trial_frame(self.records, self.metric, self.mode, self.running)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row a trial and epoch, as in history.csv."""
        return history_frame(self.records)

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The chosen trial, as in best.json; None while no trial has a finite metric."""
        return choose_best(self.records, self.metric, self.mode)

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """The searched knobs with their ranges."""
        return searched_knobs(self.info)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The plotly figures of the report by name: history, curves, parallel, slice-lr..."""
        from search.figures import search_plots  # plotly and scikit-learn only when asked for

        return {plot.name: plot.figure for plot in search_plots(self)}

    @property
    def metric(self) -> str:
        """What the search optimises: `valid_acc` or `valid_loss`."""
        return str(self.info["metric"])

    @property
    def mode(self) -> str:
        """`max` or `min`."""
        return str(self.info["mode"])


def load(search_dir: str | Path) -> Search:
    """Open a search directory. Raises ValueError where there is no search in it."""
    path = Path(search_dir)
    if not (path / SEARCH_JSON).is_file():
        raise ValueError(
            f"no search in {path}: {SEARCH_JSON} is missing; name a folder results/<task>/<name>"
        )
    info = read_json(path / SEARCH_JSON)
    missing = {"task", "metric", "mode", "space", "baseline"} - set(info)
    if missing:
        raise ValueError(
            f"{path / SEARCH_JSON} lacks {', '.join(sorted(missing))}; restore the file"
        )
    records = sorted(read_ledger(path / LEDGER).values(), key=lambda record: record.number)
    return Search(path, info, {record.trial_id: record for record in records}, is_running(path))


def shown_status(record: TrialRecord, running: bool) -> str:
    """A trial without an end is `running` or `pending` under a living driver, else `lost`."""
    if record.status == "running":
        return "running" if running else "lost"
    if record.status == "paused":
        return "pending" if running else "lost"
    return record.status


def trial_frame(
    records: dict[str, TrialRecord], metric: str, mode: str, running: bool
) -> pd.DataFrame:
    """The trial table; the metrics are those of each trial's best epoch by `metric`."""
    import pandas as pd  # here, so that `resnet-tune trials` need not wait for it

    rows = [trial_row(record, metric, mode, running) for record in records.values()]
    knobs = list(dict.fromkeys(key for row in rows for key in row if key.startswith("config/")))
    frame = pd.DataFrame.from_records(rows, columns=[*COLUMNS, *knobs])
    return frame.astype({"epochs": "int64", "best_epoch": "Int64"})


def trial_row(record: TrialRecord, metric: str, mode: str, running: bool) -> dict[str, Any]:
    """One row of the trial table."""
    epoch = record.best_epoch(metric, mode)
    metrics = record.history.get(epoch, {}) if epoch is not None else {}
    return {
        "trial_id": record.trial_id,
        "status": shown_status(record, running),
        "epochs": record.epochs,
        **{key: metrics.get(key, math.nan) for key in ("train_loss", "valid_loss", "valid_acc")},
        "best_epoch": epoch,
        "seconds": round(record.seconds, 3),
        "error": record.error or restarts(record),
        **{f"config/{key}": value for key, value in record.config.items()},
    }


def restarts(record: TrialRecord) -> str | None:
    """How often and why a trial was started again, None if it never was."""
    if not record.restarts:
        return None
    times = f"{len(record.restarts)} times" if len(record.restarts) > 1 else "once"
    return f"restarted {times}: {record.restarts[-1]}"


def history_frame(records: dict[str, TrialRecord]) -> pd.DataFrame:
    """The learning curves, one row a trial and epoch."""
    import pandas as pd  # here, as above

    rows = [
        (record.trial_id, epoch, *(metrics.get(key, math.nan) for key in METRICS))
        for record in records.values()
        for epoch, metrics in sorted(record.history.items())
    ]
    return pd.DataFrame.from_records(rows, columns=HISTORY_COLUMNS)


def with_best_epoch(
    records: Iterable[TrialRecord], metric: str, mode: str
) -> list[tuple[TrialRecord, int]]:
    """The trials that have a finite value of the metric, with the epoch of the best one."""
    pairs = ((record, record.best_epoch(metric, mode)) for record in records)
    return [(record, epoch) for record, epoch in pairs if epoch is not None]


def choose_best(records: dict[str, TrialRecord], metric: str, mode: str) -> dict[str, Any] | None:
    """The trial to retrain: best metric among those that ran their full budget, if any did."""
    finished = [record for record in records.values() if record.status == "completed"]
    completed = with_best_epoch(finished, metric, mode)
    pool = completed or with_best_epoch(records.values(), metric, mode)
    if not pool:
        return None
    sign = 1 if mode == "max" else -1
    record, epoch = max(pool, key=lambda pair: sign * pair[0].history[pair[1]][metric])
    kind = "completed" if completed else "unfinished"
    word = "highest" if mode == "max" else "lowest"
    return {
        "trial_id": record.trial_id,
        "config": record.config,
        "metrics": record.history[epoch],
        "epoch": epoch,
        "metric": metric,
        "mode": mode,
        "chosen": f"{word} {metric} at its best epoch among {len(pool)} {kind} trials"
        f" of {len(records)}",
    }


def write_tables(search: Search) -> None:
    """Write trials.csv, history.csv and, once a trial has a score, best.json."""
    for name, frame in (("trials.csv", search.trials), ("history.csv", search.history)):
        with replacing(search.path / name) as aside:
            frame.to_csv(aside, index=False)
    if search.best is not None:
        write_json(search.path / "best.json", search.best)

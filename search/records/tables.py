"""The trial table and the learning curves as rows, frames and files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from data_prep.files import replacing
from search.files import write_json
from search.records.ledger import METRICS, TrialRecord
from search.records.statuses import shown_status

if TYPE_CHECKING:
    import pandas as pd

    from search.records.search import Search

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


def write_tables(search: Search) -> None:
    """Write trials.csv, history.csv and, once a trial has a score, best.json."""
    for name, frame in (("trials.csv", search.trials), ("history.csv", search.history)):
        with replacing(search.path / name) as aside:
            frame.to_csv(aside, index=False)
    if search.best is not None:
        write_json(search.path / "best.json", search.best)

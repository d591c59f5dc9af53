"""One shot: the chosen configuration, trained once on train and valid together."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from pydantic import ValidationError
from safetensors.torch import save_model

from data_prep.digests import write_digests
from data_prep.files import whole_folder
from search.console import notice
from search.errors import UsageError, UserError
from search.files import write_json
from search.finishing.calibrate import Calibration, described
from search.finishing.inputs import Inputs
from search.finishing.own_model import save_valid_predictions
from search.records.sealed import told
from search.records.search import Search
from search.records.versions import git_commit, now, versions
from search.study.study import Study
from trainables.config import TrainConfig, recorded_knobs
from trainables.data import TaskData
from trainables.loop import TrainState
from trainables.loop import fit as fit_epochs

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


def chosen(search: Search, study: Study, trial_id: str | None) -> dict[str, Any]:
    """The trial to retrain in the form of best.json: the best one, or the one named.

    Raises UsageError for an unknown trial, ValueError when no trial has a score yet.
    """
    if trial_id is None:
        if search.best is None:
            raise ValueError(
                f"no trial of {search.path} has a finite {search.metric} yet; search first"
            )
        return search.best
    record = search.records.get(trial_id)
    if record is None:
        raise UsageError(
            f"--trial {trial_id}: no such trial; see `resnet-tune trials {search.path}`"
        )
    epoch = record.best_epoch(search.metric, search.mode)
    if epoch is None:
        raise UsageError(f"--trial {trial_id} has no finite {search.metric} ({record.status})")
    return {
        "trial_id": trial_id,
        "config": record.config,
        "metrics": record.history[epoch],
        "epoch": epoch,
        "metric": search.metric,
        "chosen": "named by --trial",
    }


def trial_config(study: Study, choice: dict[str, Any], num_epochs: int | None) -> TrainConfig:
    """The typed configuration of the choice, with another full budget if one is given.

    Raises UserError where the ledger holds a value that the task does not know.
    """
    changes = {} if num_epochs is None else {"num_epochs": num_epochs}
    try:
        knobs = recorded_knobs(study.config, choice["config"])
        return dataclasses.replace(study.config, **{**knobs, **changes})
    except (TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the configuration of {choice['trial_id']} is none of {study.task} ({reason});"
            " try another --trial"
        ) from None


def retrain(
    search: Search,
    study: Study,
    data_dir: Path,
    *,
    trial_id: str | None = None,
    num_epochs: int | None = None,
    calibration: Calibration | None = None,
    track: Track = lambda items, total, description: items,
) -> Path:
    """Train the best (or named) trial's configuration on `train_valid`; write `retrain/`.

    It trains as many epochs as the trial counts by, or as its confirmation says, under the schedule
    of its full budget, and keeps the weights or their moving average, whichever the trial's model
    was there: the result is what was validated. `num_epochs` replaces both numbers of epochs;
    `calibration` is written down for predictions.
    Raises ValueError when the loss is not finite; what an earlier retraining left stays until the
    new one is complete.
    """
    for fault in told(search.damage):
        notice(f"{fault}; chosen among the trials that are left")
    choice = chosen(search, study, trial_id)
    config = trial_config(study, choice, num_epochs)
    data = study.trainables.load_data(data_dir, config)
    state = study.trainables.start(config, data)
    state.averaged = bool(choice["metrics"].get("averaged"))  # there is no valid set to choose by
    begun = time.monotonic()
    epochs = num_epochs or int(choice["epoch"])
    rows = train_once(state, data, config, epochs, track)
    metadata = {
        **describe_choice(search, study, choice),
        "epochs": epochs,
        "seconds": round(time.monotonic() - begun, 3),
        "calibration": None if calibration is None else described(calibration),
        "inputs": Inputs.of(study, data).model_dump() if isinstance(data, TaskData) else None,
    }
    with new_model(search.path) as aside:
        save_model(state.model, str(aside / "model.safetensors"), saved_metadata(study, config))
        write_json(aside / "config.json", dataclasses.asdict(config))
        pd.DataFrame(rows).to_csv(aside / "metrics.csv", index=False)
        record = search.records[choice["trial_id"]]
        save_valid_predictions(aside / "valid_predictions.npz", search, study, record, data)
        write_digests(aside)
        write_json(aside / "metadata.json", metadata)  # not final: the score is added to it
    return search.path / "retrain"


def saved_metadata(study: Study, config: TrainConfig) -> dict[str, str] | None:
    """What the model's file says besides its tensors, such as how images come to its networks."""
    describe = getattr(study.trainables, "saved_metadata", None)
    return None if describe is None else describe(config)


@contextmanager
def new_model(search_dir: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `retrain/` when the block ends without error."""
    with FileLock(search_dir / ".retrain.lock"), whole_folder(search_dir / "retrain") as aside:
        yield aside


def train_once(
    state: TrainState, data: Any, config: TrainConfig, epochs: int, track: Track
) -> list[dict[str, float]]:
    """Train on `train_valid` for so many epochs; each epoch's metrics."""
    rows: list[dict[str, float]] = []
    for metrics in track(fit_epochs(state, data.train_valid, None, config), epochs, "retraining"):
        rows.append(metrics)
        if not np.isfinite(metrics["train_loss"]):
            raise ValueError(
                f"retraining diverged at epoch {metrics['epoch']}; try another --trial"
            )
        if metrics["epoch"] >= epochs:
            break
    return rows


def describe_choice(search: Search, study: Study, choice: dict[str, Any]) -> dict[str, Any]:
    """What metadata.json says of where the model comes from."""
    data = search.info.data
    return {
        "task": study.task,
        "trial_id": choice["trial_id"],
        "chosen": choice["chosen"],
        "valid_metrics": choice["metrics"],
        "images": data.train + data.valid,
        "classes": list(data.classes),
        "fingerprint": data.fingerprint,
        "created": now(),
        "versions": versions(),
        "git_commit": git_commit(),
        "caveat": study.caveat,
    }

"""A trial's own model, which never saw `valid`: the source of the report's honest errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from search.cluster.storage import fetched, search_storage
from search.console import notice
from search.finishing.choice import trial_config
from search.finishing.out_of_fold import Fold
from search.records.ledger import TrialRecord
from search.records.search import Search
from search.study.study import Study
from search.text import first_line
from trainables.config import TrainConfig
from trainables.data import CENTRE
from trainables.loop import TrainState, fit, look_logits
from trainables.loop import predict as predict_probabilities
from trainables.reporting import STATE_FILE
from trainables.state import CheckpointError

AGAIN = 60.0  # seconds that training it again may take, where its checkpoint is gone


def final_checkpoint(search: Search, trial_id: str) -> str | None:
    """Where the trial's checkpoint of its full budget lies; None where there is none to be had."""
    record = search.records[trial_id]
    storage = search_storage(search.info.storage, search.path, search.info.task)
    try:
        return storage.find(record.checkpoint) if record.status == "completed" else None
    except (OSError, ValueError):  # the storage is out of reach
        return None


def save_valid_predictions(
    path: Path, search: Search, study: Study, record: TrialRecord, data: Any
) -> bool:
    """Write what the trial's own model says of `valid`.

    False where the trial left no checkpoint behind, and it takes long to make it again: a search
    keeps that of its best trial, which a confirmation need not choose.
    """
    config = trial_config(search, study, record.trial_id)
    checkpoint = final_checkpoint(search, record.trial_id)
    if checkpoint is not None:
        state = loaded(study, config, data, checkpoint)
    elif record.status == "completed" and search.confirmed and record.seconds < AGAIN:
        state = study.trainables.start(config, data)
        for _ in fit(state, data.train, data.valid, config, search.metric):
            pass
    else:
        return False
    if state is None:
        return False
    np.savez_compressed(
        path,
        ids=np.asarray(data.valid_ids),
        labels=np.asarray(data.valid_labels),
        probabilities=predict_probabilities(state.model, data.valid, config).numpy(),
        classes=np.asarray(data.classes),
    )
    return True


def valid_logits(search: Search, study: Study, trial_id: str, data_dir: Path) -> Fold | None:
    """What a trial's own model says of `valid`, by all looks; None without its checkpoint."""
    checkpoint = final_checkpoint(search, trial_id)
    if checkpoint is None:
        return None
    config = trial_config(search, study, trial_id)
    data = study.trainables.load_data(data_dir, config)
    state = loaded(study, config, data, checkpoint)
    if state is None:
        return None
    looks = (CENTRE, *getattr(data.valid, "looks", ()))
    logits = {look: look_logits(state.model, data.valid, config, look).numpy() for look in looks}
    return Fold(logits, np.asarray(data.valid_labels, dtype=np.int64))


def loaded(study: Study, config: TrainConfig, data: Any, checkpoint: str) -> TrainState | None:
    """The model of a checkpoint; None, said in a line, where it is damaged or out of reach."""
    state: TrainState = study.trainables.start(config, data)
    try:
        with fetched(checkpoint) as folder:
            if not (folder / STATE_FILE).is_file():
                return None
            state.load(folder / STATE_FILE)
    except (OSError, CheckpointError) as error:
        notice(f"no predictions of valid for the report: {first_line(error)}")
        return None
    return state

"""The part of a trainable that talks to Ray Tune: resume, report, checkpoint."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.config import TrainConfig, known_knobs
from trainables.data import Source
from trainables.loop import TrainState, describe, fit, look_logits
from trainables.outcomes import CountingEpoch

STATE_FILE = "state.pt"


def knobs_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs in what Ray hands to a trial; names that begin with `_` are the search's own."""
    return known_knobs({name: v for name, v in config.items() if not name.startswith("_")})


def report_epochs(
    state: TrainState,
    train: Source,
    valid: Source,
    config: TrainConfig,
    *,
    resume_from: str | None,
    checkpoint_epochs: Sequence[int],
    checkpoint_seconds: float,
    facts: Mapping[str, Any],
    metric: str = "valid_acc",
) -> None:
    """Train and report every epoch to Ray Tune.

    Goes on from Ray's own checkpoint or, failing that, from the folder or URI `resume_from`.
    Attaches a checkpoint at `checkpoint_epochs`, at the last epoch (retraining and report need it),
    and when the last one is `checkpoint_seconds` old. `facts` are reported with every epoch.
    `metric` is what the study optimises: it chooses between the weights and their average.
    """
    from ray import tune  # noqa: TID251

    counting = CountingEpoch(config, metric)
    checkpoint = tune.get_checkpoint()
    if checkpoint is None and resume_from:
        checkpoint = tune.Checkpoint(resume_from)
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state.load(Path(folder, STATE_FILE))
            counting.load(Path(folder))
    saved = time.monotonic()
    for metrics in fit(state, train, valid, config, metric):
        if counting.offer(metrics, state.outcomes):
            look_again(counting, state, valid, config)
        result = {**describe(state), **facts, **metrics}
        due = metrics["epoch"] in checkpoint_epochs or metrics["epoch"] == config.num_epochs
        due = due or time.monotonic() - saved >= checkpoint_seconds
        if not due or not math.isfinite(metrics["train_loss"] + metrics["valid_loss"]):
            tune.report(result)
            continue
        with tempfile.TemporaryDirectory() as folder:
            state.save(Path(folder, STATE_FILE))
            counting.save(Path(folder))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))
        saved = time.monotonic()


def look_again(
    counting: CountingEpoch, state: TrainState, valid: Source, config: TrainConfig
) -> None:
    """On a fold, at an epoch that may be the one to count: add the logits by all other looks."""
    final = counting.epoch == config.num_epochs or not counting.last
    if config.num_folds and final and counting.outcomes is not None:
        names = getattr(valid, "looks", ())  # a source of the user's own may know none
        looks = {look: look_logits(state.model, valid, config, look) for look in names}
        counting.outcomes = replace(counting.outcomes, looks=looks)

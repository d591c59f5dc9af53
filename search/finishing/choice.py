"""The trial to retrain, and its configuration in the task's own type."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from search.errors import UsageError, UserError
from search.records.folder import SEARCH_JSON
from search.records.sealed import told
from search.records.search import Search
from search.study.overrides import one_line
from search.study.study import Study
from trainables.config import TrainConfig, recorded_knobs


def chosen(search: Search, trial_id: str | None) -> dict[str, Any]:
    """The trial to retrain in the form of best.json: the best one, or the one named.

    Raises UsageError for an unknown trial, ValueError when no trial has a score yet.
    """
    if trial_id is None:
        if search.best is None:
            damage = "".join(f"; {fault}" for fault in told(search.damage))
            raise ValueError(
                f"no trial of {search.path} has a finite {search.metric} yet; search first{damage}"
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


def trial_config(
    search: Search, study: Study, trial_id: str, num_epochs: int | None = None, seed: int = 0
) -> TrainConfig:
    """The typed configuration of a trial, with another full budget if one is given.

    `seed` is added to its own. Raises UserError where the ledger holds a value that the task does
    not know.
    """
    with told_if_none_of(study, f"the configuration of {trial_id}", "take another trial"):
        knobs = recorded_knobs(study.config, search.records[trial_id].config)
        changes: dict[str, Any] = {"seed": knobs["seed"] + seed}
        changes |= {} if num_epochs is None else {"num_epochs": num_epochs}
        return dataclasses.replace(study.config, **{**knobs, **changes})


def baseline_config(search: Search, study: Study) -> TrainConfig:
    """The typed configuration of the notes' numbers, as search.json has it; raises the same."""
    with told_if_none_of(study, f"the baseline in {search.path / SEARCH_JSON}", "restore the file"):
        return dataclasses.replace(
            study.config, **recorded_knobs(study.config, search.info.baseline)
        )


@contextmanager
def told_if_none_of(study: Study, what: str, advice: str) -> Iterator[None]:
    """Turn what the task's configuration says of the wrong knobs into a UserError, one line."""
    try:
        yield
    except ValidationError as error:
        raise UserError(f"{what} is none of {study.task} ({one_line(error)}); {advice}") from None
    except TypeError as error:
        raise UserError(f"{what} is none of {study.task} ({error}); {advice}") from None

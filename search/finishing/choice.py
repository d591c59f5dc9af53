"""The trial to retrain, and its configuration in the task's own type."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from search.errors import UsageError, UserError
from search.records.sealed import told
from search.records.search import Search
from search.study.study import Study
from search.text import first_line
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
    what = f"the configuration of {trial_id}"
    config = recorded_config(study, search.records[trial_id].config, what, "try another --trial")
    changes: dict[str, Any] = {} if num_epochs is None else {"num_epochs": num_epochs}
    return dataclasses.replace(config, seed=config.seed + seed, **changes)


def recorded_config(
    study: Study, recorded: Mapping[str, Any], what: str, advice: str
) -> TrainConfig:
    """What a file says of a configuration, in the task's type.

    Raises UserError, a line that begins with `what` and ends with `advice`, where it is none.
    """
    try:
        return dataclasses.replace(study.config, **recorded_knobs(study.config, recorded))
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        else:
            reason = first_line(error)
        raise UserError(f"{what} is none of {study.task} ({reason}); {advice}") from None

"""One shot: the chosen configurations, each trained once on train and valid together."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import save_model

from data_prep.digests import write_digests
from data_prep.files import whole_folder
from search.console import notice
from search.files import told_if_full, write_json
from search.finishing.choice import trial_config
from search.finishing.decision import decide
from search.finishing.inputs import Inputs
from search.finishing.members import Track, train_members
from search.finishing.own_model import save_valid_predictions
from search.finishing.recipe import Recipe, Wanted
from search.finishing.retrained import CONFIG, MODEL, at_work, numbered
from search.records.sealed import told
from search.records.search import Search
from search.records.versions import git_commit, now, versions
from search.study.study import Study
from trainables.config import TrainConfig
from trainables.data import TaskData


def retrain(
    search: Search,
    study: Study,
    data_dir: Path,
    *,
    recipe: Recipe | None = None,
    track: Track = lambda items, total, description: items,
) -> Path:
    """Train the recipe's members, by default the best trial, on `train_valid`; write `retrain/`.

    Each trains as many epochs as its trial counts by, or as its confirmation says, under the
    schedule of its full budget, and keeps the weights or their moving average, whichever the
    trial's model was there: the result is what was validated. Raises ValueError when a loss is not
    finite; what an earlier retraining left stays until the new one is complete.
    """
    for fault in told(search.damage):
        notice(f"{fault}; chosen among the trials that are left")
    recipe = recipe or decide(search, study, Wanted(), data_dir)
    begun = time.monotonic()
    with new_model(search.path) as aside:
        models, rows, data = train_into(aside, search, study, data_dir, recipe, track)
        seconds = round(time.monotonic() - begun, 3)
        pd.DataFrame(rows).to_csv(aside / "metrics.csv", index=False)
        record = search.records[recipe.choice["trial_id"]]
        save_valid_predictions(aside / "valid_predictions.npz", search, study, record, data)
        write_digests(aside)
        metadata = {
            **describe_choice(search, study, recipe),
            "seconds": seconds,
            **recipe.described(),
            "models": models,
            "inputs": Inputs.of(study, data).model_dump() if isinstance(data, TaskData) else None,
        }
        write_json(aside / "metadata.json", metadata)  # not final: the score is added to it
    return search.path / "retrain"


def train_into(
    folder: Path, search: Search, study: Study, data_dir: Path, recipe: Recipe, track: Track
) -> tuple[list[dict[str, Any]], list[dict[str, float]], Any]:
    """Train and save all models.

    What metadata.json says of each, each epoch's metrics, the data as the chosen trial has them.
    """
    models: list[dict[str, Any]] = []
    rows: list[dict[str, float]] = []
    data: dict[str, Any] = {}
    several = len(recipe.members) > 1
    for number, trained in enumerate(train_members(search, study, data_dir, recipe, track), 1):
        path = folder / numbered(MODEL, number)
        with told_if_full(path):
            save_model(trained.model, str(path), saved_metadata(study, trained.config))
        write_json(folder / numbered(CONFIG, number), dataclasses.asdict(trained.config))
        members = [recipe.members.index(member) for member in trained.members]
        models.append({"file": path.name, "weight": trained.weight, "members": members})
        for member, part in zip(members, trained.rows, strict=True):
            rows += [{"member": member, **row} if several else row for row in part]
        data |= {member.trial_id: trained.data for member in trained.members}
    chosen = recipe.choice["trial_id"]
    if chosen not in data:
        config = trial_config(search, study, chosen)
        data[chosen] = study.trainables.load_data(data_dir, config)
    return models, rows, data[chosen]


def saved_metadata(study: Study, config: TrainConfig) -> dict[str, str] | None:
    """What the model's file says besides its tensors, such as how images come to its networks."""
    describe = getattr(study.trainables, "saved_metadata", None)
    return None if describe is None else describe(config)


@contextmanager
def new_model(search_dir: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `retrain/` when the block ends without error."""
    with at_work(search_dir), whole_folder(search_dir / "retrain") as aside:
        yield aside


def describe_choice(search: Search, study: Study, recipe: Recipe) -> dict[str, Any]:
    """What metadata.json says of where the model comes from."""
    data, choice = search.info.data, recipe.choice
    return {
        "task": study.task,
        "trial_id": choice["trial_id"],
        "chosen": choice["chosen"],
        "valid_metrics": choice["metrics"],
        "epochs": recipe.num_epochs or int(choice["epoch"]),
        "images": data.train + data.valid,
        "classes": list(data.classes),
        "fingerprint": data.fingerprint,
        "created": now(),
        "versions": versions(),
        "git_commit": git_commit(),
        "caveat": study.caveat,
    }

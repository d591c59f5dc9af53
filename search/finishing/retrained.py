"""The retrained model, loaded again from its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load_model
from torch import nn

from data_prep.files import bring_back
from search.files import read_json
from search.finishing.inputs import no_model, read_inputs
from search.records.digests import check_digest
from search.study.study import Study
from search.text import first_line
from trainables.config import TrainConfig, recorded_knobs
from trainables.data import TaskData, without_images
from trainables.loop import TrainState


def load_retrained(
    search_dir: Path, study: Study, data_dir: Path | None, changes: Mapping[str, Any] | None = None
) -> tuple[TrainState, TrainConfig, Any]:
    """The retrained model with its configuration and data, ready to predict.

    Without `data_dir` the data have no images. `changes` are those of the configuration. Raises
    ValueError when there is no model yet, or its files are damaged.
    """
    folder = search_dir / "retrain"
    bring_back(folder)
    if not (folder / "model.safetensors").is_file():
        raise no_model(search_dir)
    check_digest(folder / "config.json")
    check_digest(folder / "model.safetensors")
    try:
        knobs = recorded_knobs(study.config, read_json(folder / "config.json"))
        if "weights" in knobs:  # the saved model holds the backbone too; its own file may be gone
            knobs |= {"weights": str(folder / "model.safetensors"), "head_init": "random"}
        config = dataclasses.replace(study.config, **{**knobs, **(changes or {})})
        inputs = read_inputs(search_dir) if data_dir is None else None
        data = inputs.task_data() if inputs else study.trainables.load_data(data_dir, config)
        plain = (
            without_images(data.classes, data.mean, data.std)
            if isinstance(data, TaskData)
            else data
        )
        state = study.trainables.start(config, plain)  # all its numbers come from the file
        load_weights(state.model, folder / "model.safetensors")
    except (TypeError, KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder / 'config.json'} does not fit task {study.task}: {reason}"
        ) from None
    return state, config, data


def imageless(data: Any) -> Any:
    """The data as far as a model needs them whose numbers all come from its file."""
    if isinstance(data, TaskData):
        return without_images(data.classes, data.mean, data.std)
    return data


def load_weights(model: nn.Module, path: Path) -> None:
    """Load all weights. Raises ValueError when the file is damaged or another model's."""
    try:
        load_model(model, str(path))
    except Exception as error:  # safetensors raises its own type, and RuntimeError for other shapes
        raise ValueError(f"{path} cannot be loaded ({first_line(error)}); retrain again") from None

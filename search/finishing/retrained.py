"""The retrained models, loaded again from their folder; several predict as one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import load_model
from torch import Tensor, nn

from data_prep.files import bring_back
from search.console import notice
from search.files import read_json
from search.finishing.calibrate import recorded_temperature, temper
from search.finishing.inputs import METADATA, no_model, read_inputs
from search.records.digests import check_digest
from search.study.study import Study
from search.text import first_line
from trainables.config import TrainConfig, recorded_knobs
from trainables.data import MIRRORED, Source, TaskData, without_images
from trainables.loop import TrainState
from trainables.loop import predict as predict_probabilities

T = TypeVar("T")
MODEL, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class Loaded:
    """One model, ready to predict."""

    state: TrainState
    config: TrainConfig
    data: Any
    weight: float
    """Its share of the prediction; all sum to 1."""


def numbered(name: str, number: int) -> str:
    """The file's name of the model of this number, from 1: the first has the plain name."""
    stem, dot, suffix = name.partition(".")
    return name if number == 1 else f"{stem}_{number}{dot}{suffix}"


def unchanged(search_dir: Path, work: Callable[[], T]) -> T:
    """What comes of the work with `retrain/`; again where another model was put there meanwhile."""
    folder = search_dir / "retrain"
    while True:
        before = identity(folder)
        try:
            result = work()
        except (OSError, ValueError):
            if identity(folder) == before:
                raise
            continue
        if identity(folder) == before:
            return result


def identity(folder: Path) -> int | None:
    """What tells a folder from one that took its place; None without one."""
    try:
        return folder.stat().st_ino
    except OSError:
        return None


@contextmanager
def at_work(search_dir: Path) -> Iterator[None]:
    """One process at a time makes the model of a search and its submission; another waits."""
    lock = FileLock(search_dir / ".retrain.lock", is_singleton=True)  # may be taken again inside
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notice(f"another process makes {search_dir / 'retrain'} or its submission: waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def load_models(
    search_dir: Path, study: Study, data_dir: Path | None, changes: Mapping[str, Any] | None = None
) -> list[Loaded]:
    """All retrained models, as `load_retrained` loads one.

    Raises ValueError where metadata.json says something else than weights of them.
    """
    bring_back(search_dir / "retrain")
    if not (search_dir / METADATA).is_file():
        raise no_model(search_dir)
    said = read_json(search_dir / METADATA).get("models") or [{"weight": 1.0}]
    try:
        weights = [float(each["weight"]) for each in said]
        if not all(weight > 0 for weight in weights) or not math.isclose(sum(weights), 1):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{search_dir / METADATA}: models have no weights that sum to 1; retrain again"
        ) from None
    return [
        Loaded(*load_retrained(search_dir, study, data_dir, changes, number), weight)
        for number, weight in enumerate(weights, 1)
    ]


def load_retrained(
    search_dir: Path,
    study: Study,
    data_dir: Path | None,
    changes: Mapping[str, Any] | None = None,
    number: int = 1,
) -> tuple[TrainState, TrainConfig, Any]:
    """The retrained model of a number with its configuration and data, ready to predict.

    Without `data_dir` the data have no images. `changes` are those of the configuration. Raises
    ValueError when there is no model yet, or its files are damaged.
    """
    folder = search_dir / "retrain"
    bring_back(folder)
    model, settings = (folder / numbered(name, number) for name in (MODEL, CONFIG))
    if not model.is_file():
        raise no_model(search_dir)
    check_digest(settings)
    check_digest(model)
    try:
        knobs = recorded_knobs(study.config, read_json(settings))
        if "weights" in knobs:  # the saved model holds the backbone too; its own file may be gone
            knobs |= {"weights": str(model), "head_init": "random"}
        config = dataclasses.replace(study.config, **{**knobs, **(changes or {})})
        inputs = read_inputs(search_dir) if data_dir is None else None
        data = inputs.task_data() if inputs else study.trainables.load_data(data_dir, config)
        state = study.trainables.start(config, imageless(data))  # its numbers come from the file
        load_weights(state.model, model)
    except (TypeError, KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{settings} does not fit task {study.task}: {reason}") from None
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


def predict_together(
    search_dir: Path, models: Sequence[Loaded], source: Callable[[Loaded], Source]
) -> NDArray[np.float64]:
    """(N, C): the weighted mean of the models' probabilities, at the temperature that was fitted.

    Each averages over the looks that metadata.json names. `source`: the images as a model has them.
    """
    parts = []
    for each in models:
        looks = averaged_over(search_dir, each.config)
        found = predict_probabilities(each.state.model, source(each), each.config, looks)
        parts.append(each.weight * found.numpy().astype(np.float64))
    whole = np.sum(parts, axis=0)
    return temper(whole, recorded_temperature(search_dir)).astype(np.float64)


def averaged_over(search_dir: Path, config: TrainConfig) -> tuple[str, ...]:
    """The looks at an image besides the plain one over which predictions are averaged.

    Where a version before says nothing of them: as the configuration says.
    """
    said = read_json(search_dir / METADATA).get("looks")
    if said is None:
        return (MIRRORED,) if config.flip_average else ()
    return tuple(map(str, said))


class Averaged(nn.Module):
    """Several networks as one: softmax of its outputs is the weighted mean of their softmaxes."""

    def __init__(self, networks: Sequence[nn.Module], weights: Sequence[float]) -> None:
        """`weights` sum to 1."""
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.weights = tuple(weights)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C): log sum_m w_m softmax(network_m(images))."""
        each = [
            torch.log_softmax(network(images).float(), 1) + math.log(weight)
            for network, weight in zip(self.networks, self.weights, strict=True)
        ]
        return torch.logsumexp(torch.stack(each), 0)

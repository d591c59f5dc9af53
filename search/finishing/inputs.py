"""What a retrained model takes and says, kept beside it: it needs no prepared data to be used."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_prep.files import bring_back
from search.files import read_json
from search.study.fitting import fitted_to
from search.study.study import Study
from trainables.data import TaskData, without_images

METADATA = Path("retrain", "metadata.json")


class Inputs(BaseModel):
    """The part `inputs` of metadata.json."""

    model_config = ConfigDict(frozen=True)

    classes: tuple[str, ...] = Field(min_length=1)
    """In the order of the model's outputs."""
    mean: tuple[float, ...]
    """Of each channel, in 0 to 1: images are normalised with it."""
    std: tuple[float, ...]
    image_size: int | None = Field(ge=1)
    """Side of the square, in pixels, that images are resized to; None: they keep their shape."""
    short_side: int | None = Field(ge=1)
    """Of images that keep their shape: what a longer short side shrinks to, in pixels."""
    submission: Literal["label", "probabilities"]

    @staticmethod
    def of(study: Study, data: TaskData) -> Inputs:
        """Those of a study that is fitted to its data."""
        return Inputs(
            classes=tuple(data.classes),
            mean=data.mean,
            std=data.std,
            image_size=study.layout.image_size,
            short_side=study.layout.short_side,
            submission=study.submission,
        )

    def fit(self, study: Study) -> Study:
        """The study as it was fitted to the data."""
        if study.layout.fit is not None:
            study = fitted_to(study, self.image_size, self.submission)
        layout = dataclasses.replace(
            study.layout, image_size=self.image_size, short_side=self.short_side
        )
        return dataclasses.replace(study, layout=layout, submission=self.submission)

    def task_data(self) -> TaskData:
        """The data as far as a model needs them: no images."""
        return without_images(self.classes, self.mean, self.std)


def read_inputs(search_dir: Path) -> Inputs | None:
    """What metadata.json says; None where it says nothing of it.

    So it is where an earlier version retrained, or the task has data of a type of its own. Raises
    ValueError when there is no retrained model, or the file is damaged.
    """
    path = search_dir / METADATA
    bring_back(path.parent)
    if not path.is_file():
        raise no_model(search_dir)
    content: dict[str, Any] = read_json(path)
    if content.get("inputs") is None:
        return None
    try:
        return Inputs.model_validate(content["inputs"])
    except ValidationError as error:
        place = ".".join(map(str, ("inputs", *error.errors()[0]["loc"])))
        reason = f"{place}: {error.errors()[0]['msg']}"
        raise ValueError(f"{path} cannot be used ({reason}); retrain again") from None


def no_model(search_dir: Path) -> ValueError:
    """The error where a search has no retrained model."""
    return ValueError(f"no retrained model in {search_dir}: run `resnet-tune retrain {search_dir}`")

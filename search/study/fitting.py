"""A study fitted to its prepared data, where its layout goes by the images that are there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from data_prep.prepared import load_prepared
from search.study.study import Study


def fitted(study: Study, root: Path) -> Study:
    """The study for the data prepared in `root`: for small or for large images.

    What the sample submission asks for decides the metric, too: log loss for probabilities, else
    accuracy. A study with a layout of its own, or without data yet, stays as it is. Raises
    ValueError for data that are not whole.
    """
    if study.layout.fit is None or not (root / "audit.json").is_file():
        return study
    data = load_prepared(root)
    return fitted_to(study, data.image_size, None if data.sample is None else data.sample.kind)


def fitted_to(
    study: Study, image_size: int | None, kind: Literal["label", "probabilities"] | None
) -> Study:
    """As `fitted`, to the square that small images are packed to, and what is to be submitted."""
    if image_size is not None:
        layout = dataclasses.replace(study.layout, image_size=image_size, short_side=None)
        study = dataclasses.replace(study.small or study, task=study.task, layout=layout)
    if kind is None:
        return study
    if kind == "probabilities":
        return dataclasses.replace(study, submission="probabilities", metric="valid_loss")
    return dataclasses.replace(study, submission="label", metric="valid_acc")

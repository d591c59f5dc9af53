"""A study fitted to its prepared data, where its layout goes by the images that are there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

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
    if data.image_size is not None:
        layout = dataclasses.replace(study.layout, image_size=data.image_size, short_side=None)
        study = dataclasses.replace(study.small or study, task=study.task, layout=layout)
    if data.sample is None:
        return study
    if data.sample.kind == "probabilities":
        return dataclasses.replace(study, submission="probabilities", metric="valid_loss")
    return dataclasses.replace(study, submission="label", metric="valid_acc")

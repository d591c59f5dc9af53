"""The retrained model on the test set, or on any folder of images -> a checked CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.pack import decode_images
from data_prep.prepared import PreparedData
from search.console import notice
from search.finishing.retrain import load_retrained
from search.finishing.submission import read_sample, score_submission, write_submission
from search.study.study import Study
from trainables.loop import predict as predict_probabilities

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def predict_test(search_dir: Path, study: Study, data: PreparedData, out: Path) -> str | None:
    """Predict `test`, write the submission; return the score line where there is an answer key."""
    state, config, task_data = load_retrained(search_dir, study, data.root)
    probabilities = predict_probabilities(state.model, task_data.test, config).numpy()
    ids, probabilities = with_unreadable(data, task_data.test_ids, probabilities)
    submission = write_submission(
        out, study.submission, ids, task_data.classes, probabilities, data.sample_submission
    )
    if data.test_labels is None:
        return None
    accuracy, log_loss = score_submission(submission, study.submission, data.test_labels)
    return f"test accuracy: {accuracy:.4f}" + (
        f", log loss: {log_loss:.4f}" if log_loss is not None else ""
    )


def with_unreadable(
    data: PreparedData, ids: Sequence[str], probabilities: NDArray[np.float32]
) -> tuple[list[str], NDArray[np.float32]]:
    """Add the sample submission's ids that have no usable image, with the classes' frequencies.

    Kaggle wants a row for every id; the audit has counted these, and they are named here again.
    """
    if data.sample_submission is None:
        return list(ids), probabilities
    missing = sorted(set(read_sample(data.sample_submission)["id"]) - set(ids))
    if not missing:
        return list(ids), probabilities
    notice(
        f"{len(missing)} test images are missing or do not decode ({', '.join(missing[:3])});"
        " their rows hold the class frequencies"
    )
    counts = data.split["label"].value_counts().reindex(list(data.classes)).to_numpy()
    rows = np.tile((counts / counts.sum()).astype(np.float32), (len(missing), 1))
    return [*ids, *missing], np.concatenate([probabilities, rows])


def predict_images(
    search_dir: Path, study: Study, data: PreparedData, images: Path, out: Path
) -> int:
    """Predict every image of a folder (ids are file names without suffix); the number of rows."""
    if not images.is_dir():
        raise ValueError(f"--images {images} is not a folder")
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ValueError(f"--images {images} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    state, config, task_data = load_retrained(search_dir, study, data.root)
    arrays = decode_images(files, study.layout)
    source = study.trainables.images_data(arrays.pixels, arrays.shapes, task_data, config)
    probabilities = predict_probabilities(state.model, source, config).numpy()
    ids = [path.stem for path in files]
    write_submission(out, study.submission, ids, task_data.classes, probabilities, None)
    return len(ids)

"""The retrained model on the test set, or on any folder of images -> a checked CSV."""

from __future__ import annotations

from pathlib import Path

from data_prep.answer_key import load_answers
from data_prep.decode_files import decode_usable
from data_prep.image_tree import find_images
from data_prep.prepared import PreparedData
from search.console import notice
from search.finishing.retrained import Loaded, load_models, predict_together, unchanged
from search.finishing.submission import Predictions, make_submission, score
from search.study.study import Study
from trainables.data import Source

SHOWN = 3  # names of files in a line about what was left out


def predictions_of_test(search_dir: Path, study: Study, data_dir: Path) -> Predictions:
    """The retrained model on `test`. Raises ValueError where there are no images."""
    return unchanged(search_dir, lambda: predict_test(search_dir, study, data_dir))


def predict_test(search_dir: Path, study: Study, data_dir: Path) -> Predictions:
    """The same, while nobody puts another model there."""
    models = load_models(search_dir, study, data_dir)
    task_data = models[0].data
    if not task_data.test_ids:
        raise ValueError(f"{data_dir} has no test images: there is nothing to predict")
    probabilities = predict_together(search_dir, models, lambda each: each.data.test)
    return Predictions.of(task_data.test_ids, task_data.classes, probabilities)


def write_test(predictions: Predictions, study: Study, data: PreparedData, out: Path) -> str | None:
    """Write the submission; the score line where there is an answer key."""
    sample = data.sample
    if sample is not None and None in sample.images:
        absent = [i for i, image in zip(sample.ids, sample.images, strict=True) if image is None]
        notice(
            f"{len(absent)} test images are missing or do not decode"
            f" ({', '.join(absent[:SHOWN])}); their rows hold the class frequencies"
        )
    shares = data.split["label"].value_counts(normalize=True)
    frequencies = {str(name): float(share) for name, share in shares.items()}
    make_submission(study.submission, predictions, sample, frequencies).write(out)
    if data.test_labels is None:
        return None
    accuracy, log_loss = score(predictions, load_answers(data.test_labels))
    kind = study.submission if sample is None else sample.kind
    return f"test accuracy: {accuracy:.4f}" + (
        f", log loss: {log_loss:.4f}" if kind == "probabilities" else ""
    )


def predict_images(
    search_dir: Path,
    study: Study,
    data_dir: Path | None,
    images: Path,
    out: Path,
    *,
    recursive: bool = False,
) -> int:
    """Predict every image of a folder, with `recursive` also those below it; the number of rows.

    An id is the file's name without suffix, or its path in the folder where two files share that
    name. What is no readable image is named and skipped. `data_dir` is None where the model says
    itself what it takes (`inputs`). Raises ValueError where there is none.
    """
    if not images.is_dir():
        raise ValueError(f"--images {images} is not a folder")
    tree = find_images(images)
    paths = [path for path in tree.files if recursive or "/" not in path]
    arrays, left_out = decode_usable([tree.files[path] for path in paths], study.layout)
    skipped = {path: left_out[tree.files[path]] for path in paths if tree.files[path] in left_out}
    skipped |= {path: "not an image" for path in tree.others if recursive or "/" not in path}
    if skipped:
        told = "; ".join(f"{path}: {reason}" for path, reason in list(skipped.items())[:SHOWN])
        notice(f"{len(skipped)} files of {images} left out ({told})")
    if not recursive and any("/" in path for path in tree.files):
        notice(f"sub-folders of {images} are left out; --recursive takes them too")
    usable = [path for path in paths if path not in skipped]
    if not usable:
        raise ValueError(f"--images {images} holds no readable image")
    ids = tree.ids()

    def source(each: Loaded) -> Source:
        found: Source = study.trainables.images_data(
            arrays.pixels, arrays.shapes, each.data, each.config
        )
        return found

    def predicted() -> Predictions:
        models = load_models(search_dir, study, data_dir)
        probabilities = predict_together(search_dir, models, source)
        named = [ids[path] for path in usable]
        return Predictions.of(named, models[0].data.classes, probabilities)

    predictions = unchanged(search_dir, predicted)
    make_submission(study.submission, predictions).write(out)
    return len(usable)

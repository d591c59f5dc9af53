"""Retrain the choice and predict the test set, in this process or on a cluster; said beforehand."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from data_prep.prepared import PreparedData
from search import console
from search.cluster.addresses import RAY_CLIENT
from search.errors import UsageError
from search.files import read_json, write_json
from search.finishing.away import Files, away, contents
from search.finishing.calibrate import Calibration, calibration_of
from search.finishing.predict import predictions_of_test, write_test
from search.finishing.retrain import chosen, new_model, retrain
from search.finishing.submission import Predictions
from search.records.folder import check_writable
from search.records.search import Search
from search.study.study import Study
from search.text import duration

RETRAIN = "retrain"


def finish(
    found: Search,
    study: Study,
    prepared: PreparedData,
    address: str | None,
    trial_id: str | None = None,
    num_epochs: int | None = None,
    calibrate: bool = True,
) -> None:
    """Retrain the choice, write the submission, and print the score where it can be known."""
    check_address(address)
    check_writable(found.path)
    choice = chosen(found, study, trial_id)
    calibration = calibration_of(found, choice["trial_id"], calibrate and num_epochs is None)
    console.notice(forecast(found, study, trial_id, num_epochs, address))
    predictions = None
    if address is None:
        retrain(
            found,
            study,
            prepared.root,
            trial_id=trial_id,
            num_epochs=num_epochs,
            calibration=calibration,
            track=console.track,
        )
    else:
        asked = (trial_id, num_epochs, calibration)
        predictions = retrain_away(found, study, prepared, address, *asked)
    folder = found.path / RETRAIN
    metadata = read_json(folder / "metadata.json")
    console.notice(
        f"retrained {metadata['trial_id']} on {metadata['images']} images"
        f" for {metadata['epochs']} epochs: {folder}"
    )
    if calibrate and found.metric == "valid_loss":
        console.notice(str(calibration))
    if not prepared.has_test_images:
        console.notice(f"no submission: {prepared.root} has no test images to predict")
        return
    predictions = predictions or predictions_of_test(found.path, study, prepared.root)
    score = write_test(predictions, study, prepared, found.path / "submission.csv")
    console.notice(f"submission: {found.path / 'submission.csv'}")
    if score:
        write_json(folder / "metadata.json", {**metadata, "score": score})
        console.say(score + (f" ({study.caveat})" if study.caveat else ""))


def forecast(
    found: Search, study: Study, trial_id: str | None, num_epochs: int | None, address: str | None
) -> str:
    """What is about to be trained, where, and how long it takes by the trial's own epochs."""
    choice = chosen(found, study, trial_id)
    record, data = found.records[choice["trial_id"]], found.info.data
    epochs = num_epochs or int(choice["epoch"])
    images = data.train + data.valid
    each = record.seconds / max(record.epochs, 1) * images / max(data.train, 1)
    where = "in this process" if address is None else f"as a task of the Ray cluster {address}"
    return (
        f"retraining {record.trial_id} {where}: {epochs} epochs on {images} images, about"
        f" {duration(each * epochs)} by the trial's own; then into {found.path / RETRAIN}"
    )


def retrain_away(
    found: Search,
    study: Study,
    prepared: PreparedData,
    address: str,
    trial_id: str | None,
    num_epochs: int | None,
    calibration: Calibration,
) -> Predictions | None:
    """Retrain on the cluster, bring `retrain/` here whole or not at all; what it predicts."""
    storage = found.info.storage or str(found.path.resolve().parents[1])
    info = found.info.model_copy(update={"storage": storage})
    work = partial(
        retrain_there,
        dataclasses.replace(found, info=info),
        study,
        trial_id,
        num_epochs,
        calibration,
        prepared.has_test_images,
    )
    predictions, files = away(address, study, prepared, found.path.name, work, {})
    with new_model(found.path) as aside:
        for path, content in files.items():
            (aside / Path(path).name).write_bytes(content)
    return predictions


def retrain_there(
    found: Search,
    study: Study,
    trial_id: str | None,
    num_epochs: int | None,
    calibration: Calibration,
    predict: bool,
    folder: Path,
    data_dir: Path,
) -> Predictions | None:
    """The work on the node: the search's folder is another one there, of the same name."""
    here = dataclasses.replace(found, path=folder)
    retrain(
        here,
        study,
        data_dir,
        trial_id=trial_id,
        num_epochs=num_epochs,
        calibration=calibration,
    )
    return predictions_of_test(folder, study, data_dir) if predict else None


def predict_somewhere(
    found: Search, study: Study, prepared: PreparedData, address: str | None, out: Path
) -> str | None:
    """Predict `test` with the retrained model and write the submission; the score line."""
    check_address(address)
    if address is None:
        predictions = predictions_of_test(found.path, study, prepared.root)
    else:
        files: Files = contents(found.path, RETRAIN)
        work = partial(predict_there, study)
        predictions, _ = away(address, study, prepared, found.path.name, work, files)
    return write_test(predictions, study, prepared, out)


def predict_there(study: Study, folder: Path, data_dir: Path) -> Predictions:
    """The work on the node."""
    return predictions_of_test(folder, study, data_dir)


def check_address(address: str | None) -> None:
    """Raise UsageError for an address over which no task can be sent."""
    if address is not None and address.startswith(RAY_CLIENT):
        raise UsageError(f"--address {address}: use auto or HOST:PORT, on a node of the cluster")

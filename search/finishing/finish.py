"""Retrain the choice and predict the test set, in this process or on a cluster; said beforehand."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from rich.filesize import decimal

from data_prep.files import clear_parts
from data_prep.prepared import PreparedData
from search import console
from search.cluster.addresses import RAY_CLIENT
from search.cluster.node_probe import free_bytes
from search.errors import UsageError, UserError
from search.files import read_json, write_json
from search.finishing.away import Files, away, contents
from search.finishing.decision import decide
from search.finishing.ladder import ladder_lines
from search.finishing.predict import predictions_of_test, write_test
from search.finishing.recipe import Recipe, Wanted
from search.finishing.retrain import new_model, retrain
from search.finishing.retrained import at_work
from search.finishing.submission import Predictions
from search.records.folder import check_writable
from search.records.search import Search
from search.study.study import Study
from search.text import duration

RETRAIN = "retrain"
SUBMISSION = "submission.csv"
PARAMETER_BYTES = 4  # in model.safetensors
ROOM = 2**19  # bytes of all that is written beside the model


def finish(
    found: Search,
    study: Study,
    prepared: PreparedData,
    address: str | None,
    wanted: Wanted | None = None,
) -> None:
    """Retrain the choice, write the submission, and print the score where it can be known."""
    check_address(address)
    check_writable(found.path)
    with at_work(found.path):
        make_final(found, study, prepared, address, wanted or Wanted())


def make_final(
    found: Search, study: Study, prepared: PreparedData, address: str | None, wanted: Wanted
) -> None:
    """The same, while nobody else does so."""
    clear_parts(found.path, SUBMISSION)
    recipe = decide(found, study, wanted, prepared.root)
    for line in ladder_lines(recipe.ladder, found.metric):
        console.notice(line)
    if wanted.calibrate and found.metric == "valid_loss":
        console.notice(str(recipe.calibration))
    check_room(found, recipe)
    console.notice(forecast(found, recipe, address))
    predictions = None
    if address is None:
        retrain(found, study, prepared.root, recipe=recipe, track=console.track)
    else:
        predictions = retrain_away(found, study, prepared, address, recipe)
    folder = found.path / RETRAIN
    metadata = read_json(folder / "metadata.json")
    console.notice(f"retrained {told(recipe)} on {metadata['images']} images: {folder}")
    if not prepared.has_test_images:
        console.notice(f"no submission: {prepared.root} has no test images to predict")
        return
    predictions = predictions or predictions_of_test(found.path, study, prepared.root)
    score = write_test(predictions, study, prepared, found.path / SUBMISSION)
    console.notice(f"submission: {found.path / 'submission.csv'}")
    if score:
        write_json(folder / "metadata.json", {**metadata, "score": score})
        console.say(score + (f" ({study.caveat})" if study.caveat else ""))


def check_room(found: Search, recipe: Recipe) -> None:
    """Raise UserError where the disk has no room for the models: before they are trained."""
    each = [found.records[m.trial_id].facts.get("num_parameters") for m in recipe.members]
    needed = sum(PARAMETER_BYTES * count for count in each if count) + ROOM
    free = free_bytes(found.path)
    if free < needed:
        raise UserError(
            f"{found.path}: {decimal(free)} free, and the model with what belongs to it needs"
            f" {decimal(needed)}; make room there and start again"
        )


def told(recipe: Recipe) -> str:
    """The members in words."""
    if len(recipe.members) == 1:
        return f"{recipe.members[0].trial_id} for {recipe.members[0].epochs} epochs"
    each = [
        f"{m.trial_id}{f' seed +{m.seed}' if m.seed else ''} ({m.weight:.2f})"
        for m in recipe.members
    ]
    return f"{len(each)} members (weight): {', '.join(each)}"


def forecast(found: Search, recipe: Recipe, address: str | None) -> str:
    """What is about to be trained, where, and how long it takes by the trials' own epochs."""
    data = found.info.data
    images, seconds = data.train + data.valid, 0.0
    for member in recipe.members:
        record = found.records[member.trial_id]
        each = record.seconds / max(record.epochs, 1) * images / max(data.train, 1)
        seconds += each * member.epochs
    first = recipe.members[0]
    what = first.trial_id if len(recipe.members) == 1 else f"{len(recipe.members)} members"
    where = "in this process" if address is None else f"as a task of the Ray cluster {address}"
    return (
        f"retraining {what} {where}: {sum(m.epochs for m in recipe.members)} epochs on"
        f" {images} images, about {duration(seconds)} by the trials' own;"
        f" then into {found.path / RETRAIN}"
    )


def retrain_away(
    found: Search, study: Study, prepared: PreparedData, address: str, recipe: Recipe
) -> Predictions | None:
    """Retrain on the cluster, bring `retrain/` here whole or not at all; what it predicts."""
    storage = found.info.storage or str(found.path.resolve().parents[1])
    info = found.info.model_copy(update={"storage": storage})
    there = dataclasses.replace(found, info=info)
    work = partial(retrain_there, there, study, recipe, prepared.has_test_images)
    predictions, files = away(address, study, prepared, found.path.name, work, {})
    with new_model(found.path) as aside:
        for path, content in files.items():
            (aside / Path(path).name).write_bytes(content)
    return predictions


def retrain_there(
    found: Search, study: Study, recipe: Recipe, predict: bool, folder: Path, data_dir: Path
) -> Predictions | None:
    """The work on the node: the search's folder is another one there, of the same name."""
    retrain(dataclasses.replace(found, path=folder), study, data_dir, recipe=recipe)
    return predictions_of_test(folder, study, data_dir) if predict else None


def predict_somewhere(
    found: Search, study: Study, prepared: PreparedData, address: str | None, out: Path
) -> str | None:
    """Predict `test` with the retrained model and write the submission; the score line."""
    check_address(address)
    if out == found.path / SUBMISSION:
        with at_work(found.path):
            return predict_to(found, study, prepared, address, out)
    return predict_to(found, study, prepared, address, out)


def predict_to(
    found: Search, study: Study, prepared: PreparedData, address: str | None, out: Path
) -> str | None:
    """The same, into a file that nobody else writes."""
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

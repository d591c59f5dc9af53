"""What the commands on a finished search do: confirm, retrain, predict, reproduce, export."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.prepared import PreparedData, load_prepared
from data_prep.readers import reading
from search import console
from search.cluster.addresses import asked_address
from search.errors import UsageError, faults_logged
from search.finishing.finish import check_address, finish
from search.finishing.options import (
    Confirming,
    Exporting,
    Finished,
    Prediction,
    Repetition,
    Retraining,
)
from search.finishing.recipe import Wanted
from search.plan import gpus, told_before
from search.records.best import BASELINE
from search.records.folder import SEARCH_JSON, latest_search
from search.records.outcomes import KEPT, outcomes_path
from search.records.runs import Plan
from search.records.sealed import told
from search.records.search import Search, load
from search.records.tables import write_tables
from search.review.certainty import confirmed_lines
from search.running.options import Options
from search.study.fitting import fitted
from search.study.loading import load_recorded
from search.study.overrides import customise
from search.study.study import Study
from search.text import duration, masked

SHORT = 60.0  # seconds that a search may take longer without being asked
FEWEST_IMAGES = 10  # in a fold: fewer tell nothing


@contextmanager
def opened(asked: Finished) -> Iterator[tuple[Search, Study, PreparedData]]:
    """A search with the study and data it was run with; faults in the block are logged in it."""
    found = load(asked.search_dir or latest_search(asked.results))
    study = load_recorded(found.info.task, found.info.overrides, asked.task)
    told = told_before(found.info.overrides, found.path / SEARCH_JSON)
    study = customise(
        study,
        cpus_per_trial=told["cpus_per_trial"],
        gpus_per_trial=gpus(told["gpus_per_trial"]),
    )
    root = data_folder(asked, found)
    prepared = load_prepared(root)
    if prepared.fingerprint != found.info.data.fingerprint:
        raise ValueError(
            f"{root} is not the data that {found.path} was searched on; prepare it again"
        )
    with faults_logged(found.path), reading(root):
        yield found, fitted(study, root), prepared


def data_folder(asked: Finished, found: Search) -> Path:
    """The task's prepared data: where the command line says, else where the search found them."""
    return Path(found.info.data.root) if asked.data is None else asked.data / found.info.task


@contextmanager
def opened_model(asked: Finished) -> Iterator[tuple[Search, Study, Path | None]]:
    """A retrained search by its own folder alone, with its study and None.

    In place of None the data's folder where an earlier version, which kept less, retrained.
    """
    from search.finishing.inputs import read_inputs

    found = load(asked.search_dir or latest_search(asked.results))
    inputs = read_inputs(found.path)
    if inputs is None:
        with opened(asked) as (found, study, prepared):
            yield found, study, prepared.root
        return
    study = load_recorded(found.info.task, found.info.overrides, asked.task)
    with faults_logged(found.path):
        yield found, inputs.fit(study), None


def confirm(confirming: Confirming) -> int:
    """Run the best configurations again; the exit code."""
    from search.finishing.confirm import can_confirm, plan_confirmation

    check_address(confirming.address)
    with opened(confirming) as (found, study, prepared):
        if not can_confirm(study):
            raise UsageError(f"{study.task} cannot be confirmed: its trainables have no load_data")
        plan = plan_confirmation(found, confirming.top, confirming.folds, confirming.seeds)
        options = Options(
            address=confirming.address,
            storage=confirming.storage,
            max_concurrent=confirming.max_concurrent,
            command=[masked(word) for word in ["resnet-tune", *sys.argv[1:]]],
        )
        return run_again(found, study, prepared, plan, options)


def run_again(
    found: Search, study: Study, prepared: PreparedData, plan: Plan, options: Options
) -> int:
    """Run a plan unless it has been run, and print what it shows; the exit code."""
    from search.finishing.confirm import confirm as confirm_plan
    from search.finishing.confirm import forecast, is_done
    from search.running.stopper import exit_code

    for line in (*told(found.damage), *told(uncompared(found))):
        console.notice(line)
    if not is_done(found, plan):
        console.notice(
            f"confirming {len(plan.trials)} configurations on {plan}: {len(plan.runs)} runs of"
            f" each, about {duration(forecast(found, plan))} one after the other"
        )
        reason = confirm_plan(found, study, prepared, plan, options).stop_reason
        found = load(found.path)
        if reason:
            console.notice(f"stopped: {reason}; the same `resnet-tune confirm` goes on with it")
            return exit_code(reason) or 1
    for line in confirmed_lines(found) or ["no configuration completed all of its runs"]:
        console.say(line)
    write_tables(found)
    return 0 if found.confirmed is not None else 1


def uncompared(found: Search) -> list[str]:
    """A line for each of the best trials whose outcomes are gone, where others have theirs."""
    best = [s.record.trial_id for s in found.ranking if s.record.status == "completed"][:KEPT]
    gone = [name for name in best if name not in found.outcomes] if found.outcomes else []
    path = found.path
    return [f"{outcomes_path(path, name)} is gone: no image compares {name}" for name in gone]


def confirm_after(
    found: Search, study: Study, prepared: PreparedData, wanted: bool | None, options: Options
) -> int:
    """Confirm a search that has just ended, where that is wanted or takes little; else offer it."""
    from search.finishing.confirm import FOLDS, can_confirm, forecast, plan_confirmation

    completed = {r.trial_id for r in found.records.values() if r.status == "completed"}
    images = found.info.data.train + found.info.data.valid
    if wanted is False or completed <= {BASELINE} or images < FEWEST_IMAGES * FOLDS:
        return 0
    if not can_confirm(study):
        return 0
    plan = plan_confirmation(found, None, FOLDS, 1)
    seconds = forecast(found, plan)
    if wanted or seconds < SHORT:
        return run_again(found, study, prepared, plan, options)
    console.notice(
        f"not confirmed: `resnet-tune confirm {found.path}` runs the best {len(plan.trials) - 1}"
        f" and the baseline again on {plan}, about {duration(seconds)}"
    )
    return 0


def retrain(retraining: Retraining) -> None:
    """Retrain, predict the test set, print the score where it can be known."""
    with opened(retraining) as (found, study, prepared):
        address = asked_address(retraining.address)
        if retraining.ensemble and (found.runs is None or found.confirmed is None):
            raise UsageError(
                f"--ensemble {retraining.ensemble}: nothing was predicted out of fold to select"
                f" by; run `resnet-tune confirm {found.path}` first"
            )
        wanted = Wanted(
            trial=retraining.trial,
            num_epochs=retraining.num_epochs,
            calibrate=retraining.calibrate,
            tta=retraining.tta,
            seeds=retraining.seeds,
            ensemble=retraining.ensemble,
        )
        with console.goes_on_with(masked(shlex.join(["resnet-tune", *sys.argv[1:]]))):
            finish(found, study, prepared, address, wanted)


def predict(prediction: Prediction) -> None:
    """Predict the test set again, or a folder of images."""
    from search.finishing.finish import predict_somewhere
    from search.finishing.predict import predict_images

    if prediction.images is not None:
        with opened_model(prediction) as (found, study, root):
            target = prediction.out or found.path / "predictions.csv"
            folder, recursive = prediction.images, prediction.recursive
            count = predict_images(found.path, study, root, folder, target, recursive=recursive)
        console.say(f"{count} images predicted: {target}")
        return
    with opened(prediction) as (found, study, prepared):
        target = prediction.out or found.path / "submission.csv"
        address = asked_address(prediction.address)
        score = predict_somewhere(found, study, prepared, address, target)
    console.say(f"submission: {target}")
    if score:
        console.say(score)


def reproduce(repetition: Repetition) -> int:
    """Run a trial again; the exit code, 1 where its curve is not the same."""
    from search.finishing.reproduce import reproduce as run_again

    with opened(repetition) as (found, study, prepared):
        done = run_again(found, study, prepared.root, repetition.trial, console.track)
    console.say(str(done))
    return 0 if done.same else 1


def export(exporting: Exporting) -> None:
    """Write the retrained model for others; say how near its logits are."""
    from search.finishing.export import export as export_model
    from search.finishing.retrained import unchanged

    with opened_model(exporting) as (found, study, root):
        images = data_folder(exporting, found)
        if exporting.data is not None and not images.is_dir():
            raise UsageError(f"--data {exporting.data}: there is no folder {images}")
        out = exporting.out or found.path / "export"
        written = unchanged(
            found.path,
            lambda: export_model(found.path, study, root, images, exporting.style, out),
        )
    console.say(
        f"logits as the retrained model's within {written.difference:.1e}, on {written.images}"
    )
    console.say(f"export: {written.path}, described in {written.path.name}.json")

"""What the commands do: the stages strung together, with what they print."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from data_prep.layout import SourceOptions
from data_prep.prepare import prepare as prepare_data
from data_prep.prepared import PreparedData, damage, load_prepared
from data_prep.readers import reading
from search import console
from search.command_line.parameters import words
from search.errors import UsageError, faults_logged
from search.finished import confirm_after
from search.finishing.finish import finish
from search.finishing.options import LastSteps
from search.finishing.recipe import Wanted
from search.options import Preparation, Request, Showing
from search.plan import check_backbones, plan, resumable, resume_command, what_is_lost
from search.records.folder import latest_search
from search.records.search import Search, load
from search.review.table import print_trials
from search.study.fitting import fitted
from search.study.loading import DATASET, TASKS, load_study
from search.study.overrides import customise
from search.study.study import Study
from search.text import masked


def prepare(preparation: Preparation) -> PreparedData:
    """Prepare a task's data and print the audit's summary."""
    study, source = load_study(dataset_task(preparation)), preparation.source
    if source is not None and not source.exists():
        raise UsageError(f"--source {source} does not exist")
    fraction = preparation.valid_fraction
    if fraction is not None and not 0 < fraction < 1:
        raise UsageError(f"--valid-fraction {fraction} must lie between 0 and 1")
    if source is None and study.layout.write_source is None:
        raise UsageError(f"{preparation.task} needs --source: the folder of the labelled images")
    root = preparation.data / study.task
    for change in damage(root):
        console.notice(f"{change}: it is made again")
    options = SourceOptions(
        preparation.labels,
        preparation.image_folder,
        preparation.id_column,
        preparation.label_column,
        preparation.encoding,
    )
    prepared = prepare_data(
        study.layout,
        source,
        root,
        valid_fraction=fraction,
        seed=preparation.split_seed,
        options=options,
        track=console.track,
    )
    console.say(prepared.summary)
    if study.layout.fit is not None:
        chosen = fitted(study, root)
        console.notice(f"TASK {study.task}: {chosen.trains}, by {chosen.metric}; data in {root}")
    return prepared


def dataset_task(preparation: Preparation) -> str:
    """TASK with the name of its data set: --dataset, else of `images` that of the source's folder.

    Raises UsageError where `images` has neither, or a name that cannot be a folder's.
    """
    task, name = preparation.task, preparation.dataset
    if name is None:
        if task in TASKS and load_study(task).layout.fit is not None:
            if preparation.source is None:
                raise UsageError(f"{task} needs --source DIR; once prepared, TASK is {task}-NAME")
            name = re.sub(r"[^A-Za-z0-9]+", "-", preparation.source.resolve().stem).strip("-")
            if not name:
                raise UsageError(
                    f"--source {preparation.source} has no letter or digit to name the data set by:"
                    " add --dataset NAME"
                )
        else:
            return task
    if not DATASET.fullmatch(name or ""):
        raise UsageError(f"--dataset {name}: use letters, digits, dot, dash and underscore")
    if task not in TASKS:
        raise UsageError(f"--dataset {name}: {task} is a data set of its own already")
    return f"{task}-{name}"


def show(showing: Showing) -> None:
    """Print the study: every knob with its default, range, unit and meaning."""
    from search.review.study_table import show_study

    study = load_study(showing.task)
    study = fitted(study, showing.data / study.task)
    study = customise(study, sets=showing.sets, ranges=showing.ranges)
    width = console.out.width if console.out.is_terminal else None
    console.out.file.write(show_study(study, showing.style, width))


def search(request: Request) -> int:
    """Run, resume or extend a search and print its table; the exit code."""
    if request.over_client:
        return submit(request, request.ray_address)
    study, search_dir, remembered = plan(request)
    with resumable(request, search_dir):
        return run_planned(request, study, search_dir, remembered)[1]


def check(request: Request) -> int:
    """Examine cluster, data and storage, and try one batch; the exit code."""
    if request.over_client:
        return submit(request, request.ray_address, command="check")
    from search.cluster.check import check as check_cluster
    from search.running.feature_costs import forecast_features

    study, search_dir, _ = plan(request)
    data = load_prepared(request.data / study.task)
    address, storage = request.address, request.storage
    return check_cluster(study, data, search_dir, address, storage, forecast_features)


def submit(
    request: Request,
    server: str | None,
    *,
    command: str = "search",
    more: Sequence[str] = (),
    follow: bool = True,
) -> int:
    """Send a command to a cluster's job server, at http:// or ray://; the exit code.

    Its folders are the cluster's, and so is the driver: Ray Tune itself moves there over Ray
    Client, but would end with the connection.
    """
    from search.cluster.submit import send_job

    name = request.name
    if name is None and not request.resume:
        name = datetime.now().strftime("%Y%m%d-%H%M%S")
    storage = request.storage
    if storage is not None and "://" not in storage:
        storage = str(Path(storage).expanduser().absolute())
    address = None if request.over_client else request.address
    sent = dataclasses.replace(request, name=name, storage=storage, address=address)
    local = dataclasses.replace(sent, warm_start=())  # earlier searches lie on the cluster
    study = load_study(request.task) if request.resume else plan(local)[0]
    code = send_job(
        command, request.task, [*words(sent, absolute=True), *more], server or "", follow
    )
    if command != "check":
        place = request.results.absolute() / study.task / (name or "")
        console.notice(f"results: {place} on the head node")
    return code


def run_planned(
    request: Request, study: Study, search_dir: Path, remembered: dict[str, Any]
) -> tuple[Search, int]:
    """Run the search, print its table and how to go on; the search and the exit code."""
    from search.running.session import run_search
    from search.running.stopper import exit_code

    data = load_prepared(request.data / study.task)
    for line in check_backbones(study):
        console.notice(line)
    options = dataclasses.replace(
        request,
        pack_gpus=request.gpus_per_trial == "auto",
        overrides=remembered,
        command=[masked(word) for word in ["resnet-tune", *sys.argv[1:]]],
    )
    with faults_logged(search_dir), reading(data.root):
        found = run_search(study, data, search_dir, options)
    print_trials([found], top=20)
    reason = found.stop_reason
    if reason:
        console.notice(f"stopped: {reason}; go on with: {resume_command(request, search_dir)}")
    if not reason and (lost := what_is_lost(request, found)):
        console.notice(lost)
    console.notice(f"results: {search_dir}")
    if not reason and found.best is None:
        console.notice(f"no trial ended well: {first_error(found)}")
        return found, 1
    code = exit_code(reason)
    if not code:
        with faults_logged(search_dir):
            once = dataclasses.replace(options, time_budget=None, patience=None, warm_start=())
            code = confirm_after(found, study, data, request.confirm, once)
        found = load(search_dir)
    return found, code


def first_error(found: Search) -> str:
    """What the first trial that ended badly says of it."""
    bad = (record.error or record.status for record in found.records.values())
    return next(bad, "none was started")


def report(search_dirs: Sequence[Path], results: Path, out: Path | None) -> None:
    """Write the HTML page of one search, or one that compares several."""
    from search.review.report import write_report

    searches = [load(d) for d in search_dirs or [latest_search(results)]]
    target = out or searches[0].path / "report.html"
    with faults_logged(searches[0].path):
        console.say(f"report: {write_report(searches, target)}")


def run(preparation: Preparation, request: Request, steps: LastSteps) -> int:
    """prepare + search + retrain + predict + report; the exit code."""
    if request.over_client:
        more = [
            *words(preparation, absolute=True, without=["data"]),
            *words(steps, absolute=True),
        ]
        return submit(request, request.ray_address, command="run", more=more)
    wanted = Wanted(calibrate=steps.calibrate, tta=steps.tta, ensemble=steps.ensemble)
    if steps.ensemble and request.confirm is False:
        raise UsageError("--ensemble takes confirmed configurations: leave --no-confirm out")
    confirm = True if steps.ensemble else request.confirm
    request = dataclasses.replace(request, task=dataset_task(preparation), confirm=confirm)
    study = load_study(request.task)
    root = request.data / study.task
    asked = preparation.source is not None or study.layout.write_source is not None
    first = study.layout.fit is not None  # what is searched goes by the images
    if not first:
        plan(request)  # complains before the work of preparing
    if asked or not (root / "split.csv").exists():
        prepare(preparation)
    study, search_dir, remembered = plan(request)
    with resumable(request, search_dir):
        found, code = run_planned(request, study, search_dir, remembered)
    if code:
        return code
    rest = ["resnet-tune", "retrain", str(found.path), *words(steps, absolute=False)]
    with faults_logged(search_dir), reading(root), console.goes_on_with(shlex.join(rest)):
        finish(found, study, load_prepared(root), request.ray_address, wanted)
    with console.goes_on_with(f"resnet-tune report {found.path}"):
        report([found.path], request.results, None)
    return 0

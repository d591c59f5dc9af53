"""What the commands do: the stages strung together, with what they print."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.prepare import prepare as prepare_data
from data_prep.prepared import PreparedData, load_prepared
from search import console
from search.files import latest_search, read_json, write_json
from search.retrain import retrain as retrain_best
from search.study import TASKS, Study, UsageError, customise, load_study
from search.table import print_trials
from search.trials import Search, load
from search.warm import warm_start

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REMEMBERED = (
    "sets",
    "ranges",
    "num_samples",
    "num_epochs",
    "seed",
    "cpus_per_trial",
    "gpus_per_trial",
)


@dataclass
class Request:
    """The options of `search`, as the command line gave them."""

    task: str
    data: Path
    results: Path
    name: str | None = None
    num_samples: int | None = None
    num_epochs: int | None = None
    seed: int | None = None
    sets: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    resume: bool = False
    time_budget: str | None = None
    patience: int | None = None
    warm_start: list[Path] = field(default_factory=list)
    max_concurrent: int | None = None
    max_failures: int = 3
    cpus_per_trial: float | None = None
    gpus_per_trial: str | None = None
    address: str | None = None
    storage: str | None = None
    mlflow: str | None = None
    wandb: str | None = None


def prepare(
    task: str, source: Path | None, data: Path, valid_fraction: float, seed: int
) -> PreparedData:
    """Prepare a task's data and print the audit's summary."""
    study = load_study(task)
    if source is not None and not source.is_dir():
        raise UsageError(f"--source {source} is not a folder")
    if not 0 < valid_fraction < 1:
        raise UsageError(f"--valid-fraction {valid_fraction} must lie between 0 and 1")
    if source is None and study.task != "digits":
        raise UsageError(f"{task} needs --source: the folder of Kaggle's download")
    root = data / study.task
    prepared = prepare_data(
        study.layout, source, root, valid_fraction=valid_fraction, seed=seed, track=console.track
    )
    console.say(prepared.summary)
    return prepared


def search(request: Request) -> int:
    """Run, resume or extend a search and print its table; the exit code."""
    study, search_dir, remembered = plan(request)
    return run_planned(request, study, search_dir, remembered)[1]


def check(request: Request) -> int:
    """Examine cluster, data and storage, and try one batch; the exit code."""
    from search.check import check as check_cluster

    study, search_dir, _ = plan(request)
    data = load_prepared(request.data / study.task)
    return check_cluster(study, data, search_dir, request.address, request.storage)


def submit(request: Request, words: Sequence[str], job_address: str, follow: bool) -> int:
    """Send the search to a cluster's job server; `words` are its options as they were typed."""
    from search.submit import submit as submit_job

    name = request.name or datetime.now().strftime("%Y%m%d-%H%M%S")
    study = plan(request)[0] if not request.resume else load_study(request.task)
    folders = {"--data": request.data.absolute(), "--results": request.results.absolute()}
    given = [word for item in folders.items() for word in map(str, item)]
    code = submit_job(request.task, [*words, *given, "--name", name], job_address, follow)
    place = folders["--results"] / study.task / name
    console.notice(f"results: {place} on the head node")
    return code


def plan(request: Request) -> tuple[Study, Path, dict[str, Any]]:
    """Check all options before anything starts: the study, its directory, what to remember."""
    study = load_study(request.task)
    folder = request.results / study.task
    if request.name is not None and not PLAIN_NAME.fullmatch(request.name):
        raise UsageError(f"--name {request.name!r}: use letters, digits, dot, dash and underscore")
    if request.resume:
        search_dir = (
            folder / request.name if request.name else latest_search(request.results, study.task)
        )
        if (search_dir / "search.json").exists():
            recall(request, read_json(search_dir / "search.json").get("overrides", {}))
    else:
        search_dir = folder / (request.name or datetime.now().strftime("%Y%m%d-%H%M%S"))
    seconds(request.time_budget)
    study = customise(
        study,
        sets=request.sets,
        ranges=request.ranges,
        num_samples=request.num_samples,
        num_epochs=request.num_epochs,
        seed=request.seed,
        cpus_per_trial=request.cpus_per_trial,
        gpus_per_trial=gpus(request.gpus_per_trial),
    )
    warm_start(request.warm_start, study)  # complains about a wrong one before anything starts
    remembered = {key: getattr(request, key) for key in REMEMBERED}
    earlier = [str(path.resolve()) for path in request.warm_start]
    return study, search_dir, {"task": request.task, "warm_start": earlier, **remembered}


def recall(request: Request, overrides: dict[str, Any]) -> None:
    """Take over what the first session was told, wherever this one says nothing else."""
    for key in ("sets", "ranges"):
        said = {spec.partition("=")[0] for spec in [*request.sets, *request.ranges]}
        kept = [spec for spec in overrides.get(key, []) if spec.partition("=")[0] not in said]
        setattr(request, key, [*kept, *getattr(request, key)])
    request.warm_start = request.warm_start or [Path(p) for p in overrides.get("warm_start", [])]
    for key in REMEMBERED:
        if getattr(request, key) is None:
            setattr(request, key, overrides.get(key))


def gpus(text: str | float | None) -> float | None:
    """GPUs of a trial; None where the cluster decides (also for `auto`). Raises UsageError."""
    try:
        number = None if text is None or text == "auto" else float(text)
    except ValueError:
        number = -1.0
    if number is not None and not 0 <= number < math.inf:
        raise UsageError(f"--gpus-per-trial {text}: use a number such as 0.25 or 1, or auto")
    return number


def seconds(text: str | None) -> float | None:
    """A time span in seconds: `90`, `90s`, `30m`, `2h`, `1h30m`. Raises UsageError."""
    if text is None:
        return None
    try:
        span = float(text) if re.fullmatch(r"[\d.]+", text) else pd.Timedelta(text).total_seconds()
    except ValueError:
        span = 0.0
    if not span > 0:
        raise UsageError(f"--time-budget {text}: write it like 90s, 30m, 2h or 1h30m")
    return span


def run_planned(
    request: Request, study: Study, search_dir: Path, remembered: dict[str, Any]
) -> tuple[Search, int]:
    """Run the search, print its table and how to go on; the search and the exit code."""
    from search.run import Options, run_search

    data = load_prepared(request.data / study.task)
    options = Options(
        resume=request.resume,
        time_budget=seconds(request.time_budget),
        patience=request.patience,
        warm_start=request.warm_start,
        max_concurrent=request.max_concurrent,
        max_failures=request.max_failures,
        pack_gpus=request.gpus_per_trial == "auto",
        address=request.address,
        storage=request.storage,
        mlflow=request.mlflow,
        wandb=request.wandb,
        overrides=remembered,
        command=["resnet-tune", *sys.argv[1:]],
    )
    found = run_search(study, data, search_dir, options)
    print_trials([found], top=20)
    cut = found.info.get("cut")
    if cut:
        console.notice(f"stopped: {cut}; go on with: {resume_command(request, found)}")
    console.notice(f"results: {search_dir}")
    return found, 130 if cut and cut.startswith("interrupted") else 0


def resume_command(request: Request, found: Search) -> str:
    """The command that goes on with a search that was cut."""
    words = ["resnet-tune", "search", request.task, "--name", found.path.name, "--resume"]
    for option, value, default in (
        ("--data", request.data, Path("data")),
        ("--results", request.results, Path("results")),
        ("--address", request.address, None),
        ("--storage", request.storage, None),
    ):
        if value != default:
            words += [option, str(value)]
    return shlex.join(words)


def opened(
    search_dir: Path | None, results: Path, data: Path | None
) -> tuple[Search, Study, PreparedData]:
    """A search with the study and data it was run with."""
    found = load(search_dir or latest_search(results))
    study = load_study(found.info.get("overrides", {}).get("task", found.info["task"]))
    root = data / study.task if data is not None else Path(found.info["data"]["root"])
    prepared = load_prepared(root)
    if prepared.fingerprint != found.info["data"]["fingerprint"]:
        raise ValueError(
            f"{root} is not the data that {found.path} was searched on; prepare it again"
        )
    return found, study, prepared


def retrain(
    search_dir: Path | None,
    results: Path,
    data: Path | None,
    trial: str | None,
    num_epochs: int | None,
) -> None:
    """Retrain, predict the test set, print the score where it can be known."""
    found, study, prepared = opened(search_dir, results, data)
    finish(found, study, prepared, trial, num_epochs)


def finish(
    found: Search, study: Study, prepared: PreparedData, trial: str | None, num_epochs: int | None
) -> None:
    """Retrain the choice and write the submission."""
    from search.predict import predict_test

    folder = retrain_best(
        found, study, prepared.root, trial_id=trial, num_epochs=num_epochs, track=console.track
    )
    metadata = read_json(folder / "metadata.json")
    console.notice(
        f"retrained {metadata['trial_id']} on {metadata['images']} images"
        f" for {metadata['epochs']} epochs: {folder}"
    )
    score = predict_test(found.path, study, prepared, found.path / "submission.csv")
    console.notice(f"submission: {found.path / 'submission.csv'}")
    if score:
        write_json(folder / "metadata.json", {**metadata, "score": score})
        console.say(score + (f" ({study.caveat})" if study.caveat else ""))


def predict(
    search_dir: Path | None, results: Path, data: Path | None, images: Path | None, out: Path | None
) -> None:
    """Predict the test set again, or a folder of images."""
    from search.predict import predict_images, predict_test

    found, study, prepared = opened(search_dir, results, data)
    if images is not None:
        target = out or found.path / "predictions.csv"
        count = predict_images(found.path, study, prepared, images, target)
        console.say(f"{count} images predicted: {target}")
        return
    target = out or found.path / "submission.csv"
    score = predict_test(found.path, study, prepared, target)
    console.say(f"submission: {target}")
    if score:
        console.say(score)


def report(search_dirs: Sequence[Path], results: Path, out: Path | None) -> None:
    """Write the HTML page of one search, or one that compares several."""
    from search.report import write_report

    searches = [load(d) for d in search_dirs or [latest_search(results)]]
    target = out or searches[0].path / "report.html"
    console.say(f"report: {write_report(searches, target)}")


def run(request: Request, source: Path | None, valid_fraction: float) -> int:
    """prepare + search + retrain + predict + report; the exit code."""
    study, search_dir, remembered = plan(request)
    root = request.data / study.task
    if source is not None or study.task == "digits" or not (root / "split.csv").exists():
        prepare(request.task, source, request.data, valid_fraction, request.seed or 0)
    found, code = run_planned(request, study, search_dir, remembered)
    if code:
        return code
    finish(found, study, load_prepared(root), None, None)
    report([found.path], request.results, None)
    return 0


__all__ = ["TASKS", "Request", "check", "predict", "prepare", "report", "retrain", "run", "search"]

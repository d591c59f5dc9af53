"""Run, resume or extend a search: one new Tuner, fed from the ledger."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig

from data_prep.prepared import PreparedData
from search import console
from search.budget import Budget
from search.cluster import connected, trial_slots
from search.features import shared_features
from search.files import (
    SEARCH_JSON,
    check_writable,
    driver_lock,
    is_running,
    read_json,
    write_json,
)
from search.ledger import LEDGER, Ledger, TrialRecord
from search.live import LiveView
from search.optuna_asha import OptunaAsha
from search.place import Place, take_place, trial_request
from search.provenance import describe_search, now
from search.recorder import Recorder, folder_name
from search.schedulers import make_scheduler
from search.study import Study, UsageError
from search.tensorboard import TensorBoard
from search.trackers import trackers
from search.trials import Search, choose_best, load, write_tables
from search.truth import frozen_trial, open_journal, write_journal
from search.warm import warm_start
from search.worker import make_trainable


@dataclass(frozen=True)
class Options:
    """How a search is run, as opposed to what is searched."""

    resume: bool = False
    time_budget: float | None = None
    """Seconds of wall time, None: no limit."""
    patience: int | None = None
    """Stop after so many finished trials without an improvement, None: never."""
    max_concurrent: int | None = None
    """Trials at once, None: as many as the resources allow."""
    max_failures: int = 3
    """How often a trial whose process or node died is started again from its last checkpoint."""
    pack_gpus: bool = False
    """Measure how many trials fit on a GPU."""
    address: str | None = None
    storage: str | None = None
    """Where checkpoints go, a path or URI that all nodes reach; None: the search directory."""
    warm_start: Sequence[Path] = ()
    """Earlier searches of the same task whose results this one begins with."""
    mlflow: str | None = None
    """MLflow tracking URI, None: not used."""
    wandb: str | None = None
    """Weights & Biases project, None: not used."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The command-line options that shaped the study, for a later resume."""
    command: Sequence[str] = ()


def run_search(study: Study, data: PreparedData, search_dir: Path, options: Options) -> Search:
    """Run the study in `search_dir` until it is finished, cut by a budget, or interrupted.

    `search.info["status"]` of the returned search is `finished` or `interrupted`. Raises ValueError
    when the directory belongs to another search, cannot be written, or the cluster is too small.
    """
    check_directory(study, data, search_dir, options.resume)
    check_writable(search_dir)
    if is_running(search_dir):
        raise ValueError(f"another process is running the search in {search_dir}")
    with connected(options.address) as cluster:
        place = take_place(study, data, search_dir, options.storage, cluster, options.pack_gpus)
        search_dir.mkdir(parents=True, exist_ok=True)
        lock = driver_lock(search_dir)
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            raise ValueError(f"another process is running the search in {search_dir}") from None
        try:
            drive(study, data, search_dir, options, place)
        finally:
            lock.release()
    return load(search_dir)


def check_directory(study: Study, data: PreparedData, search_dir: Path, resume: bool) -> None:
    """Raise ValueError unless the directory is free, or holds a search to go on with."""
    exists = (search_dir / SEARCH_JSON).exists()
    if resume and not exists:
        raise UsageError(f"--resume: there is no search in {search_dir}")
    if not exists:
        return
    if not resume:
        raise UsageError(
            f"{search_dir} holds a search already; add --resume, or choose another --name"
        )
    info = read_json(search_dir / SEARCH_JSON)
    if info.get("task") != study.task:
        raise UsageError(f"{search_dir} is a search of {info.get('task')}, not of {study.task}")
    if info.get("metric") != study.metric:
        raise UsageError(f"{search_dir} optimises {info.get('metric')}, not {study.metric}")
    if info.get("data", {}).get("fingerprint") != data.fingerprint:
        raise UsageError(
            f"{search_dir} was run on other data than {data.root} holds now;"
            " prepare the same split again, or start a new search"
        )


def drive(
    study: Study,
    data: PreparedData,
    search_dir: Path,
    options: Options,
    place: Place,
) -> None:
    """One session of the search, from reading the ledger to writing the tables."""
    ledger = Ledger(search_dir / LEDGER)
    info = describe_search(study, data, search_dir, options)
    write_json(search_dir / SEARCH_JSON, info)
    ledger.append("session", num_samples=study.num_samples, pid=os.getpid())
    budget = Budget(options.time_budget, options.patience, study.metric, study.mode)
    try:
        with (
            budget.signals(),
            shared_features(study, data.root, place.data, budget.stop_all) as study,
        ):
            if not budget.stop_all():
                fit(study, search_dir, options, place, ledger, budget)
        status = "interrupted" if budget.reason else "finished"
    except BaseException:
        status = "failed"
        raise
    finally:
        ledger.close()
        info |= {"status": status, "end": now(), "cut": budget.reason}
        write_json(search_dir / SEARCH_JSON, info)
        write_tables(load(search_dir))


def fit(
    study: Study,
    search_dir: Path,
    options: Options,
    place: Place,
    ledger: Ledger,
    budget: Budget,
) -> None:
    """Let Ray Tune run the trials that the ledger does not know as finished."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    past = list(ledger.records.values())
    journal_path = search_dir / "study.journal"
    write_journal(journal_path, study.task, past, study.space, study.metric, study.mode)
    journal = open_journal(journal_path, study.task, study.mode)
    warm, enqueue = warm_start(options.warm_start, study)
    points = [(point, "user") for point in study.points]

    def last_checkpoint(trial_id: str) -> str | None:
        record = ledger.records.get(trial_id)
        return record.checkpoint if record else None

    searcher = OptunaAsha(
        study.space,
        metric=study.metric,
        mode=study.mode,
        num_samples=study.num_samples,
        num_epochs=study.num_epochs,
        scheduler=study.scheduler,
        grace_period=study.grace_period,
        reduction_factor=study.reduction_factor,
        baseline=dataclasses.asdict(study.config),
        seed=study.seed,
        sampler=study.sampler,
        past=past,
        warm=warm,
        enqueue=[*points, *enqueue],
        max_concurrent=options.max_concurrent,
        slots=trial_slots(place.resources),
        last_checkpoint=last_checkpoint,
    )

    def on_end(record: TrialRecord) -> None:
        budget.count(record)
        journal.add_trial(frozen_trial(record, study.space, study.metric))
        if record.status == "completed":
            best = choose_best(ledger.records, study.metric, study.mode)
            recorder.keep_only({best["trial_id"]} if best else set())

    recorder = Recorder(
        ledger,
        dataclasses.asdict(study.config),
        study.num_epochs,
        cut=lambda: budget.reason,
        on_end=on_end,
        on_tables=lambda: write_tables(load(search_dir)),
        storage=place.storage,
    )
    view = LiveView(
        ledger.records,
        study.metric,
        study.mode,
        study.num_samples,
        study.num_epochs,
        console.err,
    )
    trainable = make_trainable(
        study.trainables.trainable,
        dataclasses.asdict(study.config),
        study.metric,
        place.data.here,
        study.rungs,
        place.resources["GPU"],
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, trial_request(place.resources)),
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(searcher),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=folder_name,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=place.storage.uri,
            callbacks=[recorder, view, *watchers(study, search_dir, options, ledger)],
            failure_config=FailureConfig(max_failures=options.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=None),
            stop=budget,
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        view.stop()
    recorder.settle()


def watchers(study: Study, search_dir: Path, options: Options, ledger: Ledger) -> list[Callback]:
    """The callbacks that tell other tools; none of them can stop the search."""
    board = TensorBoard(
        ledger.records, search_dir / "tensorboard", study.metric, study.mode, console.notice
    )
    experiment = f"{study.task}/{search_dir.name}"
    return [board, *trackers(experiment, options.mlflow, options.wandb, console.notice)]

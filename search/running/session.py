"""Run, resume or extend a search: one new Tuner, fed from the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

from data_prep.files import clear_parts
from data_prep.prepared import PreparedData
from search import console
from search.cluster.connection import connected
from search.cluster.environment import Place, take_place
from search.cluster.storage import search_storage, whole_path
from search.cluster.trial_cost import try_baseline
from search.errors import UsageError
from search.records.folder import SEARCH_JSON, check_writable, driver_lock, is_running
from search.records.ledger import LEDGER, Ledger
from search.records.manifest import Manifest, describe_search, read_manifest, write_manifest
from search.records.outcomes import FOLDER as OUTCOMES
from search.records.sealed import told
from search.records.search import Search, load
from search.records.tables import write_tables
from search.records.versions import now
from search.running.checkpoints import begin_anew
from search.running.feature_cache import shared_features
from search.running.options import Options
from search.running.patience import patiently
from search.running.stopper import Budget
from search.running.tuner import fit
from search.study.space import describe_space
from search.study.study import Study
from search.text import first_line
from trainables.config import recorded_knobs


def run_search(study: Study, data: PreparedData, search_dir: Path, options: Options) -> Search:
    """Run the study in `search_dir` until it is finished, cut by a budget, or interrupted.

    `search.info.status` of the returned search is `finished` or `interrupted`. Raises ValueError
    when the directory belongs to another search, cannot be written, or the cluster is too small.
    """
    check_directory(study, data, search_dir, options.resume)
    check_writable(search_dir)
    if is_running(search_dir):
        raise ValueError(f"another process is running the search in {search_dir}")
    with connected(options.address) as cluster:
        storage = options.storage or recorded_storage(search_dir)
        place = take_place(study, data, search_dir, storage, cluster, options.pack_gpus)
        search_dir.mkdir(parents=True, exist_ok=True)
        lock = driver_lock(search_dir)
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            raise ValueError(f"another process is running the search in {search_dir}") from None
        try:
            for folder in (search_dir, search_dir / OUTCOMES):
                clear_parts(folder)
            drive(study, data, search_dir, dataclasses.replace(options, storage=storage), place)
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
    info = read_manifest(search_dir)
    if info.task != study.task:
        raise UsageError(f"{search_dir} is a search of {info.task}, not of {study.task}")
    if info.metric != study.metric:
        raise UsageError(f"{search_dir} optimises {info.metric}, not {study.metric}")
    if info.data.fingerprint != data.fingerprint:
        raise UsageError(
            f"{search_dir} was run on other data than {data.root} holds now;"
            " prepare the same split again, or start a new search"
        )


def recorded_storage(search_dir: Path) -> str | None:
    """The --storage that an earlier session was given; the folder's name tells its part of it.

    Raises UsageError where no session of this very search has kept checkpoints there: a search.json
    from someone else must not lead to the storage of another search.
    """
    if not (search_dir / SEARCH_JSON).exists():
        return None
    info = read_manifest(search_dir)
    if info.storage is None:
        return None
    if not search_storage(info.storage, search_dir, info.task).belongs_to(info.start):
        raise UsageError(
            f"{search_dir / SEARCH_JSON} names the storage {info.storage}, where nothing is marked"
            f" as this search's own; if it is yours, say so with --storage {info.storage}"
        )
    return info.storage


def drive(
    study: Study,
    data: PreparedData,
    search_dir: Path,
    options: Options,
    place: Place,
) -> None:
    """One session of the search, from reading the ledger to writing the tables."""
    budget = Budget(options.time_budget, options.patience, study.metric, study.mode)
    ledger = Ledger(
        search_dir / LEDGER, lambda write: patiently(write, "the ledger", lambda: budget.signalled)
    )
    for record in ledger.records.values():
        record.config = recorded_knobs(study.config, record.config)
    info = describe_search(
        study,
        data,
        search_dir,
        space=describe_space(study.space),
        overrides=options.overrides,
        command=options.command,
        storage=options.storage and whole_path(options.storage),
    )
    write_manifest(search_dir, info)
    if options.storage is not None:
        place.storage.mark(info.start)
    ledger.append("session", num_samples=study.num_samples, pid=os.getpid())
    for fault in told(ledger.damage):
        console.notice(f"{fault}; the search goes on without it")
    begin_anew(ledger, place.storage, console.notice)
    try:
        with (
            budget.signals(),
            shared_features(study, data.root, place.data, budget.stop_all) as study,
        ):
            untried = not (options.no_trial_batch or options.pack_gpus or got_on(ledger))
            if untried and not budget.stop_all():
                try_baseline(study, place.data, place.resources, budget.stop_all)
            if not budget.stop_all():
                fit(study, search_dir, options, place, ledger, budget)
        status = "interrupted" if budget.reason else "finished"
    except BaseException:
        status = "failed"
        raise
    finally:
        ending = {"status": status, "end": now(), "stop_reason": budget.reason}
        info = info.model_copy(update={**ending, "events": ledger.count})
        close(search_dir, ledger, info, budget)


def got_on(ledger: Ledger) -> bool:
    """Whether a trial of an earlier session has reported: there is nothing to try out."""
    return any(record.history for record in ledger.records.values())


def close(search_dir: Path, ledger: Ledger, info: Manifest, budget: Budget) -> None:
    """Write the end of a session and the tables; what a full disk refuses, a resume makes good."""

    def write() -> None:
        write_manifest(search_dir, info)
        write_tables(load(search_dir))

    try:
        patiently(write, str(search_dir), lambda: budget.signalled)
    except OSError as error:
        console.notice(f"{search_dir} could not be brought up to date ({first_line(error)})")
    with contextlib.suppress(OSError):
        ledger.close()

"""One Ray Tune run: searcher, scheduler, trial function and callbacks put together."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig

from search import console
from search.cluster.check import expected_epochs
from search.cluster.environment import Place, trial_request
from search.records.best import choose_best
from search.records.ledger import Ledger, TrialRecord
from search.records.search import load
from search.records.tables import write_tables
from search.running.checkpoints import CheckpointRoom
from search.running.live_view import LiveView
from search.running.options import Options
from search.running.optuna_journal import frozen_trial, open_journal, write_journal
from search.running.outcomes import OutcomeFiles
from search.running.patience import LONGEST, pauses
from search.running.recorder import Recorder, folder_name
from search.running.retries import Retries
from search.running.searchers import make_searcher
from search.running.stopper import Budget
from search.running.tensorboard import TensorBoard
from search.running.trackers import trackers
from search.running.trial_function import make_trainable
from search.running.trouble import STORAGE, kind_of
from search.schedulers.asha import make_scheduler
from search.schedulers.searcher import AshaSearcher
from search.study.study import Study


def fit(
    study: Study,
    search_dir: Path,
    options: Options,
    place: Place,
    ledger: Ledger,
    budget: Budget,
) -> None:
    """Let Ray Tune run the trials that the ledger does not know as finished.

    Where a disk fails under Ray's own files it ends; then it begins again from the ledger.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    retries = Retries(ledger.records, options.max_failures, budget.give_up, budget.stop_all)
    waits = pauses(budget.stop_all)
    while True:
        begun = time.monotonic()
        try:
            return run_tuner(study, search_dir, options, place, ledger, budget, retries)
        except Exception as error:
            if kind_of(error) != STORAGE:
                raise
            if time.monotonic() - begun > LONGEST:
                waits = pauses(budget.stop_all)
            console.notice(f"Ray Tune ended ({last_line(error)}): it begins again from the ledger")
            if not next(waits, False) and budget.reason is None:
                raise
            if budget.reason is not None:
                return


def last_line(error: Exception) -> str:
    """What an error of Ray Tune, which is a traceback, says at its end."""
    return str(error).strip().rpartition("\n")[2][:300]


def run_tuner(
    study: Study,
    search_dir: Path,
    options: Options,
    place: Place,
    ledger: Ledger,
    budget: Budget,
    retries: Retries,
) -> None:
    """One run of Ray Tune, from the ledger to its last event."""
    add_to_journal = journal(study, search_dir, ledger)
    outcomes = OutcomeFiles(
        search_dir, place.storage, study.metric, study.mode, everything=options.listed is not None
    )
    recorder = make_recorder(
        study, search_dir, place, ledger, budget, retries, add_to_journal, outcomes
    )
    view = LiveView(
        ledger.records,
        study.metric,
        study.mode,
        study.num_samples,
        study.num_epochs,
        expected_epochs(study),
        console.err,
    )
    searcher = make_searcher(study, options, place, ledger, retries)
    callbacks = [recorder, view, *watchers(study, search_dir, options, ledger)]
    room = make_room(options, place, ledger, recorder)
    tuner = make_tuner(study, place, searcher, callbacks, budget, room)
    try:
        tuner.fit()
    finally:
        view.stop()
    if searcher.exhausted:
        done = f"{len(searcher.trials)} of {study.num_samples} trials"
        console.notice(f"nothing more to try: {searcher.exhausted} ({done})")
    recorder.settle()


def journal(study: Study, search_dir: Path, ledger: Ledger) -> Callable[[TrialRecord], None]:
    """Write the Optuna journal afresh from the ledger; what adds an ended trial to it."""
    path = search_dir / "study.journal"
    past = ledger.records.values()
    write_journal(path, study.task, past, study.space, study.metric, study.mode)
    written = open_journal(path, study.task, study.mode)

    def add(record: TrialRecord) -> None:
        with contextlib.suppress(OSError):  # on a full disk; the next session writes it afresh
            written.add_trial(frozen_trial(record, study.space, study.metric))

    return add


def make_recorder(
    study: Study,
    search_dir: Path,
    place: Place,
    ledger: Ledger,
    budget: Budget,
    retries: Retries,
    add_to_journal: Callable[[TrialRecord], None],
    outcomes: OutcomeFiles,
) -> Recorder:
    """The callback that keeps the ledger, and all that hangs on the end of a trial."""

    def on_end(record: TrialRecord) -> None:
        budget.count(record)
        add_to_journal(record)
        if record.status == "completed":
            outcomes.gather(ledger.records, recorder.checkpoints)
            best = choose_best(ledger.records, study.metric, study.mode)
            keep = best is not None and not outcomes.everything
            recorder.keep_only({best["trial_id"]} if best and keep else set())

    def on_tables() -> None:
        with contextlib.suppress(OSError):  # they are written again soon, and at the end
            write_tables(load(search_dir))

    recorder = Recorder(
        ledger,
        dataclasses.asdict(study.config),
        study.num_epochs,
        study.metric,
        stop_reason=lambda: budget.reason,
        on_end=on_end,
        on_tables=on_tables,
        storage=place.storage,
        retries=retries,
        on_begin=budget.listen,
    )
    outcomes.gather(ledger.records, recorder.checkpoints)  # of a trial at whose end it was killed
    return recorder


def make_room(
    options: Options, place: Place, ledger: Ledger, recorder: Recorder
) -> CheckpointRoom | None:
    """What watches over the disk that waiting trials take, if a limit is given."""
    most = options.max_checkpoints_gb
    if most is None:
        return None
    return CheckpointRoom(ledger, place.storage, most, recorder.end, console.notice)


def make_tuner(
    study: Study,
    place: Place,
    searcher: AshaSearcher,
    callbacks: list[Callback],
    budget: Budget,
    room: CheckpointRoom | None = None,
) -> tune.Tuner:
    """Ray's Tuner; nothing that it saves of itself is read again."""
    trainable = make_trainable(
        study.trainables.trainable,
        dataclasses.asdict(study.config),
        study.metric,
        place.data,
        study.rungs,
        place.resources["GPU"],
    )
    return tune.Tuner(
        tune.with_resources(trainable, trial_request(place.resources)),
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(searcher, room),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=folder_name,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=place.storage.uri,
            callbacks=callbacks,
            failure_config=FailureConfig(max_failures=0),  # what is tried again: running/retries.py
            checkpoint_config=CheckpointConfig(num_to_keep=None),
            stop=budget,
            verbose=0,
        ),
    )


def watchers(study: Study, search_dir: Path, options: Options, ledger: Ledger) -> list[Callback]:
    """The callbacks that tell other tools; none of them can stop the search."""
    board = TensorBoard(
        ledger.records, search_dir / "tensorboard", study.metric, study.mode, console.notice
    )
    experiment = f"{study.task}/{search_dir.name}"
    return [board, *trackers(experiment, options.mlflow, options.wandb, console.notice)]

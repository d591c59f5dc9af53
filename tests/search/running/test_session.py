"""Whole searches on real Ray with synthetic trials: records, interruption, resume, extension."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from statistics import fmean

import psutil
import pytest
from ray._common.utils import get_default_ray_temp_dir

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import Search, load
from search.cluster.watchdog import processes_of
from search.records.best import BASELINE
from search.records.ledger import read_events
from search.records.statuses import FINISHED
from search.review.audit import audited
from tests import toy
from tests.commands import RAY_WARNS, resnet_tune
from tests.toy_search import (
    TOY,
    check_consistent,
    copied,
    ended,
    search,
    start,
    wait_for_ends,
    words,
)

pytestmark = RAY_WARNS

REASONS = {  # by fault: how the trial ends, and what its error begins with
    "nan": ("diverged", ""),
    "exception": ("failed", 'RuntimeError: a <script> "quoted", comma,'),
    "oom": ("failed", "MemoryError: out of memory: 9 GiB wanted"),
}


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits prepared under the toy task's name."""
    data = tmp_path_factory.mktemp("data")
    prepare(LAYOUT, None, data / "toy")
    return data


@pytest.fixture(scope="module")
def finished(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search that has run to its end, with the defaults."""
    return search(toy_data, tmp_path_factory.mktemp("finished"))


def check_ended(found: Search) -> Counter[str]:
    """What holds for every search of 12 trials at its end; how many trials ended how."""
    check_consistent(found, 12)
    assert found.records[BASELINE].config["quality"] == 0.5
    assert found.records[BASELINE].origin == "baseline"
    assert found.records[BASELINE].status == "completed"  # the number to beat is never stopped
    best = json.loads((found.path / "best.json").read_text())
    completed = found.trials[found.trials["status"] == "completed"]
    assert best["metrics"]["valid_acc"] == completed["valid_acc"].max()
    configs = [json.dumps(record.config) for record in found.records.values()]
    assert len(set(configs)) == len(configs)
    return Counter(found.trials["status"])


def check_compared(found: Search) -> None:
    """What the completed trials made of each image is kept, and told of the best."""
    completed = {r.trial_id for r in found.records.values() if r.status == "completed"}
    assert set(found.outcomes) == completed
    best, described = found.best, json.loads((found.path / "best.json").read_text())
    assert best is not None
    share = math.floor(toy.IMAGES * best["metrics"]["valid_acc"]) / toy.IMAGES
    assert fmean(found.outcomes[best["trial_id"]].correct) == share
    assert described["compared"] == json.loads(json.dumps(best["compared"]))
    assert described["compared"]["images"] == toy.IMAGES
    assert described["compared"]["baseline"]["valid_loss"]["better_by"] > 0


def test_a_search_ends_with_every_trial_accounted_for(finished: Search) -> None:
    statuses = check_ended(finished)
    assert statuses["completed"] >= 1
    assert statuses["stopped"] >= 1
    check_compared(finished)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["asha", "none"])
def test_so_it_does_under_the_other_schedulers(
    toy_data: Path, tmp_path: Path, scheduler: str
) -> None:
    statuses = check_ended(search(toy_data, tmp_path, "--set", f"scheduler={scheduler}"))
    if scheduler == "none":
        assert statuses == {"completed": 12}
    else:
        assert statuses["completed"] >= 1
        assert statuses["stopped"] >= 1


def test_a_fault_is_told_and_costs_only_its_trial(toy_data: Path, tmp_path: Path) -> None:
    found = search(
        toy_data,
        tmp_path,
        *("--range", f"fault={','.join(REASONS)}", "--set", "fault_below=0.45"),
        *("--set", "sampler=random", "--seed", "0", "--num-samples", "16"),
        *("--max-failures", "0", "--set", "grace_period=3"),
    )
    check_consistent(found, 16)
    hurt = {k: r for k, r in found.records.items() if r.config["quality"] < 0.45}
    assert {record.config["fault"] for record in hurt.values()} == set(REASONS)
    for record in hurt.values():
        status, reason = REASONS[record.config["fault"]]
        assert record.status == status
        assert (record.error or "").startswith(reason)
        assert bool(record.error) == (status == "failed")
    sound = [record for key, record in found.records.items() if key not in hurt]
    assert {record.status for record in sound} <= {"completed", "stopped"}


@pytest.mark.slow
def test_a_process_that_dies_while_it_is_made_ready_for_a_trial_costs_nothing(
    toy_data: Path, tmp_path: Path
) -> None:
    found = search(
        toy_data,
        tmp_path,
        *("--set", "fault=kill_reused", "--set", "fault_below=1", "--num-samples", "5"),
        *("--cpus-per-trial", "2"),
    )
    check_consistent(found, 5)
    assert set(found.trials["status"]) <= {"completed", "stopped"}
    assert any(record.restarts for record in found.records.values())


def test_an_interrupted_search_is_resumed_and_extended(toy_data: Path, tmp_path: Path) -> None:
    started = start(toy_data, tmp_path, "--set", "epoch_seconds=0.3")
    wait_for_ends(tmp_path / "toy" / "one", 1)  # the baseline; most others end all together
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in errors
    assert f"resnet-tune search {TOY} --name one --resume --data {toy_data}" in errors
    cut = load(tmp_path / "toy" / "one")
    assert cut.info.status == "interrupted"
    assert "lost" in set(cut.trials["status"])
    before = ended(cut)
    found = search(toy_data, tmp_path, "--resume", "--num-samples", "14")
    check_consistent(found, 14)
    assert before.items() <= ended(found).items()
    assert found.records[BASELINE].config["epoch_seconds"] == 0.3  # --set is remembered


HANG_UP = pytest.param(signal.SIGHUP, marks=pytest.mark.soak)


@pytest.mark.parametrize("kind", [signal.SIGUSR1, HANG_UP])
def test_a_jobs_last_warning_and_a_closed_terminal_are_like_ctrl_c(
    toy_data: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    """Before that the search can be looked at, and not be driven twice."""
    long = ["--num-samples", "99", "--set", "scheduler=none"]  # it does not end by itself
    started = start(toy_data, tmp_path, "--set", "epoch_seconds=0.2", *long)
    try:
        wait_for_ends(tmp_path / "toy" / "one", 1)
        wait_for_status(tmp_path / "toy" / "one", "running")  # not between two trials
        assert load(tmp_path / "toy" / "one").running
        again = resnet_tune(*words(toy_data, tmp_path, "--resume"), code=1)
        assert "another process is running" in again.err
    finally:
        os.killpg(started.pid, kind)  # both reach all processes
    _, errors = started.communicate(timeout=120)
    assert started.returncode == 128 + kind
    assert "--resume" in errors
    cut = load(tmp_path / "toy" / "one")
    assert not cut.running
    assert cut.info.status == "interrupted"
    assert cut.stop_reason == f"interrupted by {kind.name}"
    assert "lost" in set(cut.trials["status"])


def wait_for_status(search_dir: Path, status: str) -> None:
    """Until the table shows a trial of this status."""
    deadline = time.monotonic() + 60
    while status not in set(load(search_dir).trials["status"]):
        assert time.monotonic() < deadline, f"no trial is {status}"
        time.sleep(0.05)


def test_audited_trials_run_to_their_end_and_a_resume_remembers_them(
    toy_data: Path, tmp_path: Path
) -> None:
    found = search(toy_data, tmp_path, "--set", "audit_share=0.5")
    assert check_ended(found)["stopped"] >= 1
    drawn = {record.trial_id for record in found.records.values() if record.audited}
    assert 4 <= len(drawn) <= 9
    assert all(found.records[trial_id].status == "completed" for trial_id in drawn)
    assert found.info.audit_share == 0.5
    (line,) = audited(found)
    assert line.startswith(f"early stopping, by {len(drawn)} audited trials: at epoch 1 rank")
    more = search(toy_data, tmp_path, "--resume", "--num-samples", "14")
    assert drawn <= {record.trial_id for record in more.records.values() if record.audited}


def test_after_kill_9_of_the_driver_nothing_finished_is_lost(
    toy_data: Path, tmp_path: Path
) -> None:
    kill_and_resume(toy_data, tmp_path, seed=0)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(1, 20))
def test_kill_9_at_many_moments(toy_data: Path, tmp_path: Path, seed: int) -> None:
    kill_and_resume(toy_data, tmp_path, seed)


def kill_and_resume(data: Path, results: Path, seed: int) -> None:
    """Kill the driver at a random moment after its first finished trial, then resume."""
    trace = results / "trace"
    options = ["--set", "epoch_seconds=0.1", "--set", f"trace={trace}", "--seed", str(seed)]
    started = start(data, results, *options)
    search_dir = results / "toy" / "one"
    wait_for_ends(search_dir, 1)
    session = max(Path(get_default_ray_temp_dir()).glob(f"session_*_{started.pid}"))  # by time
    (log, *_) = (session / "logs").glob("raylet.out")
    with log.open():  # a reader of the logs, such as this process, is not one of Ray's
        of_ray = processes_of(str(session))
    assert len(of_ray) > 5
    assert os.getpid() not in {process.pid for process in of_ray}
    time.sleep(random.Random(seed).uniform(0, 4))
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    killed = load(search_dir)
    assert not killed.running
    assert set(killed.trials["status"]) <= FINISHED | {"lost"}
    before = ended(killed)
    assert before
    started_before = len(trace.read_text().splitlines())
    found = search(data, results, "--resume")
    assert not psutil.wait_procs(of_ray, timeout=20)[1], "a process of Ray's outlives its driver"
    check_consistent(found, 12)
    assert before.items() <= ended(found).items()
    again = [line.split()[0] for line in trace.read_text().splitlines()[started_before:]]
    assert not set(again) & set(before), "a finished trial ran again"


@pytest.mark.slow
def test_checkpoints_of_waiting_trials_stay_below_their_limit(
    toy_data: Path, tmp_path: Path
) -> None:
    limit = ["--max-checkpoints-gb", "0.004", "--set", "checkpoint_bytes=1000000"]
    told = resnet_tune(*words(toy_data, tmp_path, "--num-samples", "24", *limit)).err
    assert told.count("(--max-checkpoints-gb): the least promising of them end here") == 1
    found = load(tmp_path / "toy" / "one")
    check_consistent(found, 24)
    waiting: set[str] = set()
    most = 0
    for event in read_events(found.path / "ledger.jsonl"):
        if event["event"] == "pause":
            waiting.add(event["trial"])
        elif event["event"] in ("start", "end"):
            waiting.discard(event["trial"])
        most = max(most, len(waiting))
    assert 3 <= most <= 4 + 2  # of 1 MB and a bit; two run, and pause before the scheduler looks
    sound = {r.config["quality"]: r.status for r in found.records.values()}
    assert sound[max(sound)] == "completed"


@pytest.mark.slow
def test_a_time_budget_cuts_and_says_so(toy_data: Path, tmp_path: Path) -> None:
    cut = search(toy_data, tmp_path, "--set", "epoch_seconds=1", "--time-budget", "12s")
    assert cut.stop_reason == "time budget of 12 s reached"
    assert len(ended(cut)) < 12  # on a busy machine not one may have started


def test_patience_cuts_and_says_so(toy_data: Path, tmp_path: Path) -> None:
    plateau = search(toy_data, tmp_path, "--patience", "3", "--num-samples", "60")
    assert plateau.stop_reason == "no improvement in 3 finished trials"
    assert len(plateau.records) < 60


def test_other_data_is_refused(finished: Search, tmp_path: Path) -> None:
    prepare(LAYOUT, None, tmp_path / "toy", seed=1)
    results = finished.path.parents[1]
    told = resnet_tune(*words(tmp_path, results, "--resume"), code=2).err
    assert "was run on other data than" in told
    assert len(told.strip().splitlines()) == 1


def test_warm_start_runs_the_best_of_an_earlier_search_first(
    toy_data: Path, finished: Search, tmp_path: Path
) -> None:
    best = finished.best
    assert best is not None
    found = search(toy_data, tmp_path, "--warm-start", str(finished.path), "--num-samples", "6")
    check_consistent(found, 6)
    origins = [record.origin for record in found.records.values()]
    assert origins[:2] == ["baseline", "warm_start"]
    assert found.records["t0001"].config["quality"] == best["config"]["quality"]
    wrong = words(toy_data, tmp_path / "c", "--warm-start", str(tmp_path))
    assert "no search in" in resnet_tune(*wrong, code=1).err


def test_a_changed_range_keeps_the_old_trials(
    toy_data: Path, finished: Search, tmp_path: Path
) -> None:
    narrow = ["--resume", "--num-samples", "16", "--range", "quality=0.8..1.0"]
    after = search(toy_data, copied(finished, tmp_path), *narrow)
    check_consistent(after, 16)
    assert ended(finished).items() <= ended(after).items()
    new = [r for r in after.records.values() if r.trial_id not in finished.records]
    assert all(0.8 <= record.config["quality"] <= 1.0 for record in new)


@pytest.mark.slow
def test_with_every_knob_fixed_a_search_is_one_trial_and_can_be_resumed(
    toy_data: Path, tmp_path: Path
) -> None:
    fixed = ["--set", "quality=0.7", "--set", "lr=0.1"]
    for more in ([], ["--resume", "--num-samples", "5"]):
        told = resnet_tune(*words(toy_data, tmp_path, *fixed, *more)).err
        found = load(tmp_path / "toy" / "one")
        check_consistent(found, 1)
        assert found.records[BASELINE].status == "completed"
        assert "nothing more to try: the search space holds no further configuration" in told

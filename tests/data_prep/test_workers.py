"""Work spread over cores: in order, the same in processes as in threads, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import psutil
import pytest

from data_prep.prepare import prepare
from data_prep.workers import PROCESS_BATCH, spread, usable_cores
from tests.downloads import LAYOUT, cats_and_dogs, png, write_download

ROOT = Path(__file__).parents[2]
CORES = 2


def squares(batch: Sequence[int]) -> list[int]:
    """Something to do."""
    return [number * number for number in batch]


def own_process(batch: Sequence[int]) -> int:
    """Which process works."""
    return os.getpid()


def refuse(batch: Sequence[int]) -> int:
    """The third batch is bad."""
    if batch[0] >= 2 * PROCESS_BATCH:
        raise ValueError(f"bad {batch[0]}")
    return len(batch)


def end_at_once(batch: Sequence[int]) -> int:
    """As the kernel ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def sleep(batch: Sequence[int]) -> int:
    """Work that takes long."""
    time.sleep(60)
    return 0


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of files is many, and there are two cores."""
    monkeypatch.setattr("data_prep.workers.PROCESSES_FROM", 0)
    monkeypatch.setattr("data_prep.workers.usable_cores", lambda: CORES)


def test_few_items_stay_in_this_process() -> None:
    assert list(chain(*spread(squares, range(1000)))) == [n * n for n in range(1000)]
    assert set(spread(own_process, range(1000))) == {os.getpid()}
    assert list(spread(squares, [])) == []


@pytest.mark.usefixtures("many")
def test_many_items_go_to_processes_in_order() -> None:
    assert list(chain(*spread(squares, range(5000)))) == [n * n for n in range(5000)]
    used = set(spread(own_process, range(5000)))
    assert os.getpid() not in used
    assert 1 <= len(used) <= CORES
    assert not any(map(psutil.pid_exists, used))


@pytest.mark.usefixtures("many")
def test_one_core_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.workers.usable_cores", lambda: 1)
    assert set(spread(own_process, range(1000))) == {os.getpid()}


def test_cores_are_those_that_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)


@pytest.mark.usefixtures("many")
def test_an_error_is_raised_here_and_ends_the_processes() -> None:
    before = set(psutil.Process().children())
    with pytest.raises(ValueError, match="bad 128"):
        list(spread(refuse, range(100_000)))
    assert workers(psutil.Process(), before) == []


@pytest.mark.usefixtures("many")
def test_a_killed_process_is_told_in_one_line() -> None:
    with pytest.raises(ChildProcessError, match="was killed, perhaps for its memory") as error:
        list(spread(end_at_once, range(100_000)))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("many")
def test_results_that_nobody_wants_any_more_end_the_processes() -> None:
    before = set(psutil.Process().children())
    results = spread(squares, range(100_000))
    assert next(results)[:3] == [0, 1, 4]
    results.close()
    assert workers(psutil.Process(), before) == []


def workers(
    process: psutil.Process, before: set[psutil.Process] | None = None
) -> list[psutil.Process]:
    """The processes at work that a process has started: all but multiprocessing's tracker."""
    return [
        child
        for child in process.children()
        if child not in (before or set()) and "spawn_main" in " ".join(child.cmdline())
    ]


# Without the usual guard: that the script is not run again by its processes is part of the test.
SCRIPT = """
import sys, data_prep.workers
from tests.data_prep.test_workers import sleep
data_prep.workers.PROCESSES_FROM = 0
data_prep.workers.usable_cores = lambda: 2
print("started", flush=True)
try:
    list(data_prep.workers.spread(sleep, range(100_000)))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[psutil.Popen]:
    """A script whose two processes are at work."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    script = psutil.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    wait_for(lambda: len(workers(script)) == CORES)
    yield script
    for process in [*script.children(recursive=True), script] if script.is_running() else []:
        process.kill()
    script.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited a minute"
        time.sleep(0.05)


@pytest.mark.parametrize("settled", [False, True])
def test_ctrl_c_leaves_no_processes(busy: psutil.Popen, settled: bool) -> None:
    """A terminal sends it to all processes of the group."""
    if settled:
        time.sleep(2)
    started = busy.children(recursive=True)
    assert len(started) >= CORES
    os.killpg(busy.pid, signal.SIGINT)
    out, err = busy.communicate(timeout=60)
    assert (busy.returncode, out, err) == (130, b"started\n", b"")
    wait_for(lambda: not [child for child in started if child.is_running()])


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_leaves_no_processes(busy: psutil.Popen, kind: signal.Signals) -> None:
    started = busy.children(recursive=True)
    assert len(started) >= CORES
    busy.send_signal(kind)
    assert busy.wait(60) == -kind
    wait_for(lambda: not [child for child in started if child.is_running()])


def test_prepare_writes_the_same_bytes_in_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"c0": (12, 20), "c1": (20, 12), "d0": (7, 100)}
    images = {name: png(7, size) for name, size in sizes.items()}
    download = write_download(tmp_path / "in", cats_and_dogs(100), images)
    (download / "train" / "d1.png").write_bytes(b"no image")
    few = prepare(LAYOUT, download, tmp_path / "few")
    monkeypatch.setattr("data_prep.workers.PROCESSES_FROM", 0)
    monkeypatch.setattr("data_prep.workers.usable_cores", lambda: CORES)
    many = prepare(LAYOUT, download, tmp_path / "many")
    assert many.fingerprint == few.fingerprint
    for path in ("packed/train_valid.npy", "packed/test.npy", "packed/packed.json", "audit.json"):
        assert (many.root / path).read_bytes() == (few.root / path).read_bytes()

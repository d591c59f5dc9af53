"""A private Ray where the machine gives little, and clusters that are not there: one line each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import ray

from search.cluster.connection import connected
from search.cluster.watchdog import processes_of
from search.command_line.interrupts import listening
from tests.commands import RAY_WARNS

pytestmark = RAY_WARNS

# As in a container with --cpus=1: a control group (version 1 or 2) in the place of the machine's.
IN_A_GROUP = """
set -e
root=/sys/fs/cgroup; limit=cpu.max; value='100000 100000'
if [ -d $root/cpu ]; then root=$root/cpu; limit=cpu.cfs_quota_us; value=100000; fi
mkdir -p $root/$0
echo "$value" > $root/$0/$limit
echo $$ > $root/$0/cgroup.procs
mount --bind $root/$0 $root
exec "$@"
"""
CORES = """
from search.cluster.connection import connected
from trainables.config import CifarConfig
from trainables.device import resolve

with connected(None) as cluster:
    print("cores", cluster.resources["CPU"], "threads", resolve(CifarConfig()).threads)
"""


def test_a_dead_address_is_told_with_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConnectionError, match="check or unset RAY_ADDRESS$"), connected(None):
        pass
    with pytest.raises(ConnectionError, match="check --address, or leave it out$"):
        with connected("127.0.0.1:2"):
            pass


def test_a_folder_with_too_long_a_name_for_sockets_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 110)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    told = (
        f"look at {re.escape(str(folder))}.*, or name another folder, not too long, by RAY_TMPDIR"
    )
    with pytest.raises(ConnectionError, match=f"^Ray cannot be started here .*{told}$") as caught:
        with connected(None):
            pass
    assert "\n" not in str(caught.value)


def hears_sigterm() -> bool:
    """Whether this process has a handler for it."""
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert caught is not None
    return bool(int(caught[1], 16) >> signal.SIGTERM - 1 & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who handles a signal")
def test_a_private_ray_ends_at_once_and_whole_while_signals_are_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    asked: list[object] = []
    monkeypatch.setattr(subprocess.Popen, "terminate", asked.append)  # and a second for each
    before = set(psutil.Process().children())
    heard: list[bool] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            heard.append(hears_sigterm())

    looking = threading.Thread(target=look)
    with listening():
        with connected(None):
            session = ray._private.worker._global_node.get_session_dir_path()
            assert len(processes_of(session)) > 3
            looking.start()
            time.sleep(0.2)
            at_work = len(heard)
        ended.set()
        looking.join()
    assert all(heard[:at_work])
    assert heard[at_work:].count(True) > 0.8 * len(heard[at_work:])  # by Ray alone: a twentieth
    assert asked == []
    assert [p for p in processes_of(session) if p.pid != os.getpid()] == []
    assert set(psutil.Process().children()) <= before


@pytest.mark.slow
def test_trials_get_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with connected(None) as cluster:
            assert cluster.resources["CPU"] == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a container's limit is a control group")
def test_trials_get_the_cores_that_a_container_may_use() -> None:
    group = f"resnet-tune-{os.getpid()}"

    def within(*command: str) -> subprocess.CompletedProcess[str]:
        inside = ["unshare", "--mount", "sh", "-c", IN_A_GROUP, group, *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=120)

    try:
        possible = within("true")
        if possible.returncode != 0:
            why = "a control group with a limit needs root and a writable /sys/fs/cgroup"
            pytest.skip(f"{why}: {possible.stderr.strip()}")
        seen = within(sys.executable, "-c", CORES)
        assert "cores 1.0 threads 1" in seen.stdout, seen.stderr
    finally:
        for folder in Path("/sys/fs/cgroup").glob(f"**/{group}"):
            folder.rmdir()

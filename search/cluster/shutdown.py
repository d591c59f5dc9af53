"""The end of a connection to Ray: at once, whole, and with ears for the signals that end a command.

Ray asks its processes one after the other to end, and waits a second for each. Those of a private
Ray never hear it, as no signal of a job's end reaches them (`deaf_children`): an end took 5.2 s.
They are killed instead, which takes .4 s, and so are agents that do not notice that the rest has
gone. Meanwhile Ray's C++ part leaves SIGTERM to the system, which would kill the driver.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import ray

from search.cluster.watchdog import processes_of
from search.command_line.interrupts import hear_again

LOOK = 0.001  # seconds between two looks at who handles SIGTERM
PATIENCE = 1.0  # seconds for killed processes to be gone


def shut_down(session: Path | None) -> None:
    """End the connection, and with the folder of its session a private Ray with all processes.

    A signal that comes meanwhile is handled when Ray has ended.
    """
    if session is not None:
        kill_at_once()
    try:
        with ThreadPoolExecutor(1) as pool:  # only the main thread may set handlers
            ending = pool.submit(ray.shutdown)
            while wait([ending], LOOK).not_done:
                hear_again()
            ending.result()
    finally:
        hear_again()
        if session is not None:
            end_rest(str(session))
            remove_secrets(session)


def kill_at_once() -> None:
    """Have Ray's shutdown ask none of its processes."""
    node = getattr(ray._private.worker, "_global_node", None)  # there is no public way
    if node is not None:
        kill = node.kill_all_processes
        node.kill_all_processes = lambda **how: kill(**{**how, "allow_graceful": False})


def end_rest(session: str) -> None:
    """Kill what still writes to the session's folder, but for this process."""
    rest = [process for process in processes_of(session) if process.pid != os.getpid()]
    for process in rest:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(rest, PATIENCE)


def remove_secrets(session: Path) -> None:
    """Remove what Ray has written down of keys: in Tune's state, and as variables of workers."""
    shutil.rmtree(session / "artifacts", ignore_errors=True)
    with contextlib.suppress(OSError):
        (session / "logs" / "runtime_env_agent.log").unlink(missing_ok=True)

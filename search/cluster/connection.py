"""The Ray cluster that a search runs on: a private local one, or one that is already there."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray.autoscaler.sdk import request_resources

from data_prep.workers import usable_cores
from search import console
from search.cluster.private import environment_with, guarded, read_again
from search.cluster.resources import Cluster, Node, living_nodes
from search.cluster.shutdown import shut_down
from search.cluster.watchdog import watched
from search.command_line.interrupts import deaf_children
from search.text import first_line

DRIVER_ENV = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # trials without a GPU must not see any
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five files a trial that nobody reads
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # running/stopper.py stops cleanly
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the searcher knows how many; 1 by default
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_THRESHOLD_S": "30",
    # MLflow's own are 120 s and 7 times: a server that dies must not hold the search for long
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Ray's own state is not read again, and a full disk ends it
}
# A reused worker whose last trial takes over 2 s to unwind is otherwise lost in silence.
WORKER_ENV = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
LOCAL: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": 256 * 2**20,  # bytes; trials map files, almost nothing goes through it
}
PACKAGES = ("data_prep", "trainables", "search")
ABOVE = Path(__file__).resolve().parents[2]  # the folder with these packages
CONNECT_TIMEOUT = 10.0  # seconds
NODE_PATIENCE = 900.0  # seconds for the first node to join; a machine of a cloud takes minutes


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A connection to the cluster at `address` (None: RAY_ADDRESS, else a private local one).

    Raises ConnectionError with one line when the cluster cannot be reached.
    """
    advice = "check --address, or leave it out" if address else "check or unset RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    check_listening(address, advice)
    local = address == "local"
    if local:
        folder = get_default_ray_temp_dir()
        advice = f"look at {folder}, or name another folder, not too long, by RAY_TMPDIR"
    with environment_with(DRIVER_ENV):
        if not local:
            read_again()  # a cluster that is there already keeps its own settings
            with attached(address, advice, runtime_env()) as cluster:
                yield cluster
            return
        with guarded() as private, watched(str(private.folder)) as tell:
            env = {"env_vars": WORKER_ENV | {"TMPDIR": str(private.folder)}}
            with attached(address, advice, env, tell, **LOCAL, **private.settings) as cluster:
                yield cluster


@contextmanager
def attached(
    address: str,
    advice: str,
    env: dict[str, Any],
    tell: Callable[[str], None] = lambda session: None,
    **settings: Any,
) -> Iterator[Cluster]:
    """The connection itself, to an address that has been looked at; `tell` is told its session.

    `env`: what every worker gets.
    """
    local = address == "local"
    if local:
        settings["num_cpus"] = usable_cores()
    try:
        # Ray puts the current folder first on its workers' sys.path
        with working_in(ABOVE), deaf_children():
            context = ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=env,
                **settings,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        what = (
            "Ray cannot be started here" if local else f"Ray cluster {address!r} cannot be reached"
        )
        raise ConnectionError(f"{what} ({first_line(error)}); {advice}") from error
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # errors are told in our words
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    session = str(context.address_info["session_dir"])
    try:
        if local:
            os.chmod(session, 0o700)  # Tune keeps its state there, and Ray writes the keys of AWS
        tell(session)
        yield Cluster(local, first_nodes(), context.dashboard_url or "")
    finally:
        shut_down(Path(session) if local else None)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """The current folder for the block (contextlib.chdir comes with Python 3.11)."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def check_listening(address: str, advice: str) -> None:
    """Raise ConnectionError within seconds where nobody listens; Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # auto, local
    try:
        knock(host.strip("[]"), int(port))
    except OSError as error:
        raise ConnectionError(
            f"Ray cluster {address!r} cannot be reached ({error.strerror or error}); {advice}"
        ) from None


def knock(host: str, port: int) -> None:
    """Raise OSError unless somebody listens there."""
    socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()


def runtime_env() -> dict[str, Any]:
    """What every worker of a cluster gets: settings and, as nodes may not have it, our own code.

    A submitted job has the code in its working directory already.
    """
    env: dict[str, Any] = {"env_vars": WORKER_ENV}
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        env |= {"py_modules": [str(ABOVE / name) for name in PACKAGES], "excludes": ["__pycache__"]}
    return env


def first_nodes() -> tuple[Node, ...]:
    """The living nodes, as soon as one of them can run anything.

    Of a cluster that is being started often nothing but the head is there. An autoscaler that waits
    for work is asked for a node. Raises ConnectionError when none has come after a while.
    """
    deadline = time.monotonic() + NODE_PATIENCE
    nodes, told = living_nodes(), False
    while not any(node.resources.get("CPU") for node in nodes):
        if time.monotonic() > deadline:
            raise ConnectionError(
                f"no node of the Ray cluster has a CPU for trials, and none came within"
                f" {NODE_PATIENCE / 60:.0f} min; start workers (`ray start --address ...`)"
            )
        if not told:
            console.notice("no node for trials yet: waiting for the first to join")
            request_resources(num_cpus=1)
            told = True
        time.sleep(1)
        nodes = living_nodes()
    if told:
        request_resources(num_cpus=0)  # from here on the trials ask for themselves
    return nodes

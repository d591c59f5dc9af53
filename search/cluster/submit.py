"""The same command as a Ray job, so that this computer may be switched off: `submit`, and ray://.

The job's working directory is this project's code alone, packed from where it is installed; data
and results are paths on the cluster (or storage URIs), which the job's own preflight checks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.filesize import decimal

from search import console
from search.cluster.addresses import RAY_CLIENT
from search.cluster.connection import ABOVE, PACKAGES, knock
from search.cluster.private import environment_with
from search.study.loading import files_of
from search.text import first_line

LEFT_OUT = ("__pycache__", "*.pyc", ".*")
CLIENT_PORT = 10001  # Ray's own default of --ray-client-server-port
CLIENT_ATTEMPTS = 3
POLL = 1.0  # seconds between two looks at the job's logs
# Settings, not secrets: nodes have credentials of their own, and a job's environment can be read.
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION", "RESNET_TUNE_CACHE")


def send_job(command: str, task: str, words: Sequence[str], address: str, follow: bool) -> int:
    """Send `resnet-tune COMMAND TASK` with these words; follow its logs to its end.

    Returns 0 when the job succeeded, or was only sent. Raises ConnectionError when the job server
    cannot be reached, ValueError for an address that is none, or when the job fails.
    """
    server = asked_of_client(address) if address.startswith(RAY_CLIENT) else address
    client = job_client(server)
    with packed_code(task) as (folder, entry):
        line = shlex.join(["python", "-m", "search", command, entry, *words])
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        console.notice(f"working directory: {decimal(folder_size(folder))} of code")
        try:
            job = client.submit_job(
                entrypoint=line,
                runtime_env={"working_dir": str(folder), "env_vars": env},
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"job server {server} refused the job: {first_line(error)}") from None
    console.notice(f"job: {job} runs {line}")
    console.notice("it goes on without this terminal; to look at it or end it:")
    at = f"--address {server}"
    for what in ("status", "logs -f", "stop"):
        verb, _, option = what.partition(" ")
        console.notice(f"  ray job {verb} {at} {job}{' ' + option if option else ''}")
    return wait(client, job) if follow else 0


def job_client(address: str) -> Any:
    """A client of the job server. Raises ConnectionError or ValueError with one line."""
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"--job-address {address}: write it as http://HOST:8265")
    try:
        place = urlsplit(address)
        default = 443 if place.scheme == "https" else 80
        knock(place.hostname or "", place.port or default)
        from ray.job_submission import JobSubmissionClient

        with environment_with({"RAY_API_SERVER_ADDRESS": address}, override=True):
            return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, OSError) as error:
        raise ConnectionError(
            f"no Ray job server at {address} ({first_line(error)}); check the address, and that the"
            " head node has `ray[default]` and was started with --dashboard-host=0.0.0.0"
        ) from None


def asked_of_client(address: str) -> str:
    """The job server of the cluster behind ray://HOST:PORT. Raises ConnectionError in one line."""
    place = urlsplit(address)
    try:
        knock(place.hostname or "", place.port or CLIENT_PORT)
        return f"http://{dashboard_of_client(address)}"
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        reason = told[-1]  # above it may stand the server's traceback
        raise ConnectionError(
            f"Ray cluster {address!r} cannot be reached ({reason}); check --address"
        ) from None


def dashboard_of_client(address: str) -> str:
    """HOST:PORT of the dashboard, which is the job server as well.

    Ray starts a process on the head for every client, by a fork beside gRPC's threads: one in some
    twenty hangs, is given up after 30 s, and is worth another attempt.
    """
    import ray

    for attempt in range(1, CLIENT_ATTEMPTS + 1):
        try:
            context = ray.init(address, logging_level=logging.ERROR)
            context.disconnect()
            return str(context.dashboard_url)
        except ConnectionAbortedError:
            if attempt == CLIENT_ATTEMPTS:
                raise
            console.notice(f"{address} did not answer within Ray's 30 s; asking again")
    raise AssertionError("unreachable")


@contextlib.contextmanager
def packed_code(task: str) -> Iterator[tuple[Path, str]]:
    """A folder with this project's packages and the user's study file; and TASK as seen in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for package in PACKAGES:
            shutil.copytree(
                ABOVE / package, folder / package, ignore=shutil.ignore_patterns(*LEFT_OUT)
            )
        if task.endswith(".py"):
            above = Path(task).resolve().parent
            for file in files_of(task):
                target = folder / file.relative_to(above)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
            task = Path(task).name
        yield folder, task


def folder_size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def wait(client: Any, job: str) -> int:
    """Print the job's log as it grows until the job ends; the exit code."""
    shown = 0
    while True:
        status = client.get_job_status(job)
        logs = client.get_job_logs(job)
        for text in logs[shown:].splitlines():
            console.say(text)
        shown = len(logs)
        if status.is_terminal():
            break
        time.sleep(POLL)
    if str(status) == "SUCCEEDED":
        return 0
    message = first_line(RuntimeError(client.get_job_info(job).message or "no reason given"))
    raise ValueError(f"job {job} ended as {status}: {message}")

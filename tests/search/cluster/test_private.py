"""A search's own Ray cannot be reached from outside, nor by a process without its token."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._private.authentication.authentication_token_setup import (
    AuthenticationMode,
    AuthenticationTokenLoader,
    get_authentication_mode,
)

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search.cluster.connection import connected
from search.command_line import interrupts
from search.records.search import load

JOIN = (
    "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50);"
    "print(ray.get(ray.remote(num_cpus=0)(lambda: 'inside').remote()))"
)
NAMES = ("search", "trainables", "torch", "ray", "data_prep/__init__")
REPOSITORY = Path(__file__).resolve().parents[3]
TOY = REPOSITORY / "tests" / "toy.py"


@dataclass(frozen=True)
class Running:
    """A private Ray, as seen while it ran."""

    gcs: str
    token_file: Path
    token: str
    mode: int
    listening: dict[tuple[str, int], str]
    worker: tuple[str, str]
    """Where a worker has this project and torch from."""


def where() -> tuple[str, str]:
    """Files of two packages, in a worker."""
    import torch

    import search

    return str(search.__file__), str(torch.__file__)


def listening() -> dict[tuple[str, int], str]:
    """Address and port -> process, for all that this process and its children listen on."""
    me = psutil.Process()
    found = {}
    for process in [me, *me.children(recursive=True)]:
        for place in listeners(process.net_connections(kind="inet")):
            found[place] = process.name()
    return found


def listeners(connections: Iterable[Any]) -> set[tuple[str, int]]:
    """Address and port of those that wait for others."""
    waiting = (c.laddr for c in connections if c.status == psutil.CONN_LISTEN)
    return {(address.ip, address.port) for address in waiting}


def join(address: str, **env: str) -> subprocess.Popen[str]:
    """Another process that asks for work to be done; refused ones take half a minute to give up."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    here = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", JOIN, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**clean, **here, **env},
        cwd="/",
    )


def fill(folder: Path) -> None:
    """Files that must not be imported."""
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A private Ray, started from a folder full of files named like packages."""
    place = tmp_path_factory.mktemp("place")
    fill(place)
    before = Path.cwd()
    os.chdir(place)
    try:
        with connected(None):
            token_file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            yield Running(
                ray.get_runtime_context().gcs_address,
                token_file,
                token_file.read_text(),
                token_file.stat().st_mode & 0o777,
                listening(),
                ray.get(ray.remote(where).remote()),
            )
    finally:
        os.chdir(before)
    assert not token_file.exists()
    assert not token_file.parent.exists()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def is_caught(kind: signal.Signals) -> bool:
    """Whether it has a handler as the system sees it."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (kind - 1) & 1)


def test_one_process_may_search_twice_and_keeps_no_token() -> None:
    """It stands first: the others share a Ray that is still running here after them."""
    with interrupts.listening():
        for _ in range(2):
            with connected(None) as cluster:
                assert cluster.local
                assert get_authentication_mode() == AuthenticationMode.TOKEN
                assert signal.getsignal(signal.SIGTERM) is interrupts.raise_interrupted
            assert all(map(is_caught, interrupts.SIGNALS)), "Ray leaves SIGTERM to the system"
            assert get_authentication_mode() == AuthenticationMode.DISABLED
            assert not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)


def test_nothing_listens_beyond_loopback(running: Running) -> None:
    assert len(running.listening) >= 5, "GCS, raylet, agents"
    addresses = {address for address, _ in running.listening}
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, running.listening


def test_another_address_of_the_machine_is_refused(running: Running) -> None:
    everybody = listeners(psutil.net_connections("inet"))
    others = {port for _, port in everybody - set(running.listening)}  # another Ray, perhaps
    ports = {port for _, port in running.listening} - others
    assert int(running.gcs.rpartition(":")[2]) in ports
    outer = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }
    for address in [*outer, "127.0.0.2"]:
        for port in ports:
            with pytest.raises(OSError, match="refused|unreachable"):
                socket.create_connection((address, port), timeout=10)


def test_only_a_process_with_the_token_gets_in(running: Running, tmp_path: Path) -> None:
    assert len(running.token) == 64
    assert running.mode == 0o600
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(running.token_file)}
    without = {"RAY_AUTH_MODE": "disabled"}
    guessed = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)}
    friend, *strangers = [join(running.gcs, **env) for env in (secret, without, guessed)]
    assert friend.communicate(timeout=300)[0].strip().endswith("inside")
    for stranger in strangers:
        assert "inside" not in stranger.communicate(timeout=300)[0]
        assert stranger.returncode != 0


def test_workers_import_this_project_and_not_what_lies_in_the_current_folder(
    running: Running,
) -> None:
    assert running.worker == where()


@pytest.mark.slow
def test_a_search_typed_in_a_folder_with_files_named_like_packages(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "tune.py"  # as the console script: its own folder is on sys.path
    script.write_text("from search.cli import main\nmain()\n")
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    command = [sys.executable, str(script), "search", str(TOY), "--name", "one"]
    done = subprocess.run(
        [*command, "--num-samples", "3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = load(tmp_path / "results" / "toy" / "one")
    assert set(found.trials["status"]) <= {"completed", "stopped"}
    assert len(found.trials) == 3

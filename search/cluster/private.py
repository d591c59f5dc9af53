"""A search's own Ray: it listens on loopback alone, and asks for a token that ends with it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import (
    AuthenticationTokenLoader,
    Config,
)

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 32  # Ray asks for a token of 64 hexadecimal digits
# Ray binds to loopback only where a machine cannot be part of a cluster. That is its rule for macOS
# and Windows; this is its switch for it. Without, a given 127.0.0.1 is replaced by the outer
# address, and GCS, raylet, workers and agents listen on all interfaces.
ONE_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def environment_with(
    settings: Mapping[str, str | None], *, override: bool = False
) -> Iterator[None]:
    """Variables for the block, where they are not set or `override`; then all is as before.

    None takes a variable away.
    """
    before = dict(os.environ)
    changed = {key: settings[key] for key in settings if override or key not in before}
    try:
        for key, value in changed.items():
            set_variable(key, value)
        yield
    finally:
        for key in changed:
            set_variable(key, before.get(key))


def set_variable(name: str, value: str | None) -> None:
    """Set or delete an environment variable."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@dataclass(frozen=True)
class Private:
    """Of a Ray of one's own."""

    folder: Path
    """For its token and the temporary files of its workers."""
    settings: dict[str, Any]
    """What `ray.init` needs."""


@contextmanager
def guarded() -> Iterator[Private]:
    """While active, a Ray that is started is private.

    The token lies in a file that only this user can read, in a folder that only this user can
    enter, and goes with the block. Ray's own `~/.ray` is not touched.
    """
    with tempfile.TemporaryDirectory(prefix="resnet-tune-") as folder:
        token = Path(folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(TOKEN_BYTES), encoding="ascii")
        settings = {
            **ONE_MACHINE,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_AUTH_TOKEN": None,
        }
        try:
            with environment_with(settings, override=True), one_machine():
                read_again()
                yield Private(Path(folder), {"_node_ip_address": LOOPBACK})
        finally:
            read_again()  # before the file goes: threads of Ray that still end would look for it


@contextmanager
def one_machine() -> Iterator[None]:
    """The switch in this process, where Ray has read the variable already."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def read_again() -> None:
    """Let Ray in this process forget the last cluster's mode and token, in this order."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()

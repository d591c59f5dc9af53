"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Test processes share the cores: threads of torch that wait for one another sleep, and do not spin
# (two epochs of digits on a machine with other work: 20 s spinning, 3 s asleep).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the repository (or RESNET_TUNE_SHARED); skip without them."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RESNET_TUNE_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {folder} (set RESNET_TUNE_SHARED)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> Iterator[None]:
    """What nohup (HUP) or a shell's background (INT) ignores, commands would inherit."""
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if before[signal.SIGINT] == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)

"""The signals that end a command as Ctrl-C does: of a job's end, a closed terminal, and Slurm.

So does a pipe whose reader has gone. Python ignores the signal for that, SIGPIPE, as libraries
write to sockets of their own; for what a command prints it is told to the handler of the others.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""SIGUSR1 is what Slurm sends with --signal=USR1@60."""

SIGNALLED = 128
"""Exit codes above it are this and a signal's number, as shells say it."""

LATER = 0.05  # seconds until a signal that came at a bad moment comes again

Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A signal other than Ctrl-C asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """The handler of a command that has nothing to put away."""
    if in_finaliser(frame):
        threading.Timer(LATER, os.kill, (os.getpid(), number)).start()
        return
    raise Interrupted(number)


def in_finaliser(frame: FrameType | None) -> bool:
    """Whether what is raised there is lost: Python ignores what a `__del__` raises."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def listen(handler: Handler) -> None:
    """Have the signals handled, but for a SIGHUP that nohup has had ignored."""
    for kind in SIGNALS:
        if kind != signal.SIGHUP or signal.getsignal(kind) != signal.SIG_IGN:
            signal.signal(kind, handler)


@contextmanager
def listening(handler: Handler = raise_interrupted) -> Iterator[None]:
    """Have the signals handled in the block; then all is as before."""
    before = {kind: signal.getsignal(kind) for kind in SIGNALS}
    listen(handler)
    try:
        yield
    finally:
        for kind, handled in before.items():
            signal.signal(kind, handled)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started in the block never hear the signals that end a command.

    What ends a job or a terminal reaches the whole group: the driver is to end in order before what
    it needs for that is gone. Handlers that the block sets do not stay, and what Ray's own raises
    at SIGTERM is raised as from ours.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {kind: signal.getsignal(kind) for kind in SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    except SystemExit as stop:
        if stop.code == signal.SIGTERM:
            raise Interrupted(signal.SIGTERM) from None
        raise
    finally:
        for kind, handled in before.items():
            signal.signal(kind, handled)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def hear_again() -> None:
    """After Ray has ended: its C++ part leaves SIGTERM to the system, unknown to Python."""
    if threading.current_thread() is threading.main_thread():
        for kind in SIGNALS:
            signal.signal(kind, signal.getsignal(kind))


def reader_has_gone() -> None:
    """The pipe that this command prints to is closed: as if SIGPIPE had come.

    Raises BrokenPipeError where there is nothing to put away.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or handler in (signal.default_int_handler, raise_interrupted):
        raise BrokenPipeError
    handler(signal.SIGPIPE, None)


def settled(code: int) -> int:
    """The exit code, once Python's own last flush cannot fail and change it."""
    for number, stream in enumerate((sys.stdout, sys.stderr), start=1):
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader has gone; it is closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    if code > SIGNALLED:  # all is put away; a Ray that was stopped while it started waits a minute
        os._exit(code)
    return code


def exit_code(error: BaseException) -> int:
    """Of a command that a signal has ended."""
    return SIGNALLED + (error.number if isinstance(error, Interrupted) else signal.SIGINT)

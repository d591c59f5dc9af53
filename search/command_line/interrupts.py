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

Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A signal other than Ctrl-C asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """The handler of a command that has nothing to put away."""
    raise Interrupted(number)


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
    it needs for that is gone. To the driver itself the signals come when the block has ended, and
    not to a handler that the block sets (Ray's exits wherever it is, without a word).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {kind: signal.getsignal(kind) for kind in SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        for kind, handled in before.items():
            signal.signal(kind, handled)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


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
    return code


def exit_code(error: BaseException) -> int:
    """128 and the signal's number, as shells say it."""
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)

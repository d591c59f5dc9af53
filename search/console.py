"""What the commands print: progress bars on a terminal, sparse lines in a pipe, plain notices."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from search.command_line.interrupts import reader_has_gone
from search.text import masked, plain

T = TypeVar("T")
PLAIN_PERIOD = 30.0  # seconds between two progress lines in a pipe


class Terminal(Console):
    """Where lines go. A reader who has gone is a signal to end; from then on nothing is printed."""

    def on_broken_pipe(self) -> None:
        """Rich itself would exit with 1."""
        self.silence()
        reader_has_gone()

    def print(self, *objects: Any, **how: Any) -> None:
        """A closed terminal, which the kernel also tells by SIGHUP, is an error of its own."""
        try:
            super().print(*objects, **how)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.silence()

    def silence(self) -> None:
        """Print to nowhere."""
        self.file = open(os.devnull, "w", encoding="utf-8")


out = Terminal(highlight=False, soft_wrap=True)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line of the result, as it is: no markup, no wrapping, and no password."""
    out.print(shown(text), markup=False)


def notice(text: str) -> None:
    """Print one line about the work in progress to standard error."""
    err.print(shown(text), markup=False)


def shown(text: str) -> str:
    """The lines as a terminal may have them: no password, and nothing in them steers it."""
    return "\n".join(map(plain, masked(text).split("\n")))


@contextmanager
def goes_on_with(command: str) -> Iterator[None]:
    """Where a signal ends the block, the command is told that does what is left."""
    try:
        yield
    except KeyboardInterrupt:
        notice(f"go on with: {command}")
        raise


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Pass the items through while showing how many of `total` are done."""
    if not total:
        return iter(items)
    return bar(items, total, description) if err.is_terminal else lines(items, total, description)


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """Empty before there is a rate."""
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s")


def bar(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """A progress bar with count, rate and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err) as progress:
        yield from progress.track(items, total=total, description=description)


def lines(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """One line each half minute, and one at the end of what took longer than that."""
    begun = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= PLAIN_PERIOD or (done == total and shown != begun):
            rate = done / (now - begun)
            notice(f"{description}: {done}/{total}, {now - begun:.0f} s, {rate:.3g}/s")
            shown = now

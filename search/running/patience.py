"""What the driver cannot write or run now, because of the machine, it tries again later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from search import console
from search.text import first_line

LONGEST = 600.0  # seconds that a full disk or a storage out of reach is waited for
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds; each pause is twice the one before
LOOK = 0.1  # seconds between two looks at whether to stop


def pauses(stopped: Callable[[], bool], longest: float = LONGEST) -> Iterator[bool]:
    """True after each wait, longer and longer; ends once `stopped`, or after `longest` seconds."""
    end = time.monotonic() + longest
    pause = FIRST_PAUSE
    while time.monotonic() < end and not stopped():
        until = min(time.monotonic() + pause, end)
        while time.monotonic() < until and not stopped():
            time.sleep(LOOK)
        pause = min(2 * pause, LONGEST_PAUSE)
        yield True


def patiently(
    write: Callable[[], None], what: str, stopped: Callable[[], bool], longest: float = LONGEST
) -> None:
    """Call `write` until it succeeds; trials wait meanwhile at their next report.

    Raises OSError when it has not succeeded after `longest` seconds, or once `stopped`.
    """
    try:
        return write()
    except OSError as error:
        console.notice(f"{what} cannot be written ({first_line(error)}): waiting")
        failure = error
    for _ in pauses(stopped, longest):
        try:
            write()
        except OSError as error:
            failure = error
        else:
            return console.notice(f"{what} is written again")
    raise failure

"""What a command finds around it: a home, and three streams that can be written to."""

from __future__ import annotations

import io
import os
import sys

from search.command_line.home import settle_home


def settle() -> None:
    """Make good what is missing, before anything else is imported."""
    settle_home()
    settle_streams()


def settle_streams() -> None:
    """No letter that a terminal cannot show ends a command, and no closed stream.

    A file that is opened while standard output is closed takes its number, and whatever a library
    prints would go into it.
    """
    opened = os.open(os.devnull, os.O_RDWR)
    while opened < 3:
        opened = os.dup(opened)
    os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

"""What a command finds around it: a home, and three streams that can be written to."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence

from search.command_line.home import settle_home


def settle() -> None:
    """Make good what is missing, before anything else is imported."""
    settle_home()
    settle_streams()


def at_home(words: Sequence[str]) -> list[str]:
    """The words with `~` at the begin of a value as the home; after `=` shells leave it.

    Pandas would take it for the home, and Python for a folder of that name.
    """
    homes = (re.fullmatch(r"(--[\w-]+=)?(~(?:/.*)?)", word, re.DOTALL) for word in words)
    pairs = zip(words, homes, strict=True)
    return [f"{at[1] or ''}{os.path.expanduser(at[2])}" if at else word for word, at in pairs]


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

"""Values as short text, and text made safe for a terminal: for tables, live view and figures."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from typing import Any


def compact(value: Any, digits: int = 3) -> str:
    """A value in few characters: floats to `digits` significant digits."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    text = f"{value:.{digits}g}" if not 0 < abs(value) < 1e-3 else f"{value:.{digits - 1}e}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """A time span in at most six characters: `8.2s`, `45s`, `3m05s`, `2h07m`, `3d04h`."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def plain(value: Any) -> str:
    """Text on one line without control characters, which could steer the terminal."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(visible, " ".join(text.splitlines())))


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of an error's text, or its type where it has none; `plain`, and not long.

    Without passwords and keys: libraries put whole URIs into their errors.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return plain(masked(lines[0]))[:most]


def named(error: BaseException) -> str:
    """The error's type and the first line of its text."""
    kind, text = type(error).__name__, first_line(error, 500)
    return kind if text == kind else f"{kind}: {text}"


def visible(character: str) -> str:
    """The character, or its escape where it is invisible or changes the direction of writing."""
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return character
    return " " if character == "\t" else character.encode("unicode_escape").decode()


TONES = {"best": "1;32", "baseline": "36", "failed": "31", "diverged": "31", "lost": "2"}


# user:password@ of a URI; the lone user of abfs://container@account is none
USER_INFO = re.compile(r"(?<=://)(?!(?<=abfs://)[^\s:/?#@]*@|(?<=abfss://)[^\s:/?#@]*@)[^\s/?#]*@")
# the same where the password holds characters that should have been written as %2F and the like
LOOSE_INFO = re.compile(r"(?<=://)[^\s/?#:@]*:(?!\d+(?:[/?#]|\s|$))[^\s'\"]*@")
SECRET_NAME = r"[\w.-]*(?:key|secret|token|passw|pwd|sig|credential|auth)[\w.-]*"
QUERY = re.compile(rf"(?<=[?&])({SECRET_NAME})=[^&\s#'\"]+", re.IGNORECASE)
SECRET_VARIABLE = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD)(_ID)?$")
SHORTEST_SECRET = 8  # characters; a shorter value may well be a word that means something else
MASK = "***"


def masked(text: str) -> str:
    """The text without passwords and keys: those of URIs, and the environment's own."""
    if "://" in text:
        text = LOOSE_INFO.sub(f"{MASK}@", USER_INFO.sub(f"{MASK}@", text))
        text = QUERY.sub(rf"\1={MASK}", text)
    for name, value in os.environ.items():
        if len(value) >= SHORTEST_SECRET and value in text and SECRET_VARIABLE.search(name):
            text = text.replace(value, MASK)
    return text

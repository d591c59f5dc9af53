"""Any one line of text -> a name for a file or folder; the text itself stays in the tables."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from data_prep.files import is_plain_name
from data_prep.image_names import suffix

UNSAFE = re.compile("^[.]|[%:/\\\\]|[. ]$")
NOT_A_LINE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
SHORT = 40  # characters that are kept of a text that is too long for a name


def is_line(text: str) -> bool:
    """Whether it is one line of visible text that any table can hold."""
    if not text or NOT_A_LINE.search(text):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates: bytes that are no text
        return False
    return True


def composed(text: str) -> str:
    """The label with each accented letter as one character: macOS writes folder names in two."""
    return unicodedata.normalize("NFC", text)


def safe_names(texts: Iterable[str]) -> dict[str, str]:
    """Each text -> a plain name of its own, also where capitals are not told apart.

    A text that is a plain name is its own; in others each odd character becomes `%2F` as in a
    web address, so that the name can be read back. A digest tells apart what is too long, or
    another's in small letters; the suffix of an image stays.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in sorted(set(texts)):
        name = UNSAFE.sub(escape, text)
        if not is_plain_name(name) or name.casefold() in taken:
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            name = f"{UNSAFE.sub(escape, text[:SHORT])}%{digest}{suffix(text)}"
        names[text] = name
        taken.add(name.casefold())
    return names


def escape(found: re.Match[str]) -> str:
    """`%2F` for a slash."""
    return f"%{ord(found.group()):02X}"

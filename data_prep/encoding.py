"""The bytes of a table -> its text. An encoding is known, or told by the letters, or asked for.

Nothing is ever replaced: a label of damaged letters would join another class. General detectors
are trained on prose and read most tables of a few short words wrongly (charset-normalizer 3.5 took
seven of twelve for another language's), so here the few usual local encodings are compared by how
well every letter fits (`letters`), and where two of them fit alike the user is asked.
"""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from data_prep.image_names import without_suffix
from data_prep.letters import ENCODINGS, RARE, SELDOM

BOMS = {  # the longer of two that begin alike first
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SURE = 0.95  # share of the likelihood that one reading must have
PLAUSIBLE = 1e-5  # mean likelihood of a character below which a reading is none
MAX_WORDS = 2000  # of different words that are weighed
MAX_WORD = 200  # bytes of a word that is weighed: a longer one is no label and no name
MAX_WEIGHED = 1 << 18  # bytes of lines that are looked at for that
CELL_END = re.compile(r"[,;\t|\r\n\"]+")
WORD = re.compile(r"[^\s,;|\"]+")
BYTES_WORD = re.compile(WORD.pattern.encode())


class UnknownEncoding(ValueError):
    """The encoding cannot be told, or is not the one that the user named."""


def decode_table(
    data: bytes,
    path: object,
    encoding: str | None,
    trust_utf8: bool = False,
    known: Iterable[str] = (),
) -> tuple[str, str]:
    """The text of a table, and its encoding; the given one is the user's, `path` is for errors.

    With `trust_utf8` what is valid UTF-8 is read as that, whatever the user named (for the files
    beside the one that it was named for). `known` are names that cells may have, of files or
    classes: where letters do not tell the reading, these do. Raises UnknownEncoding that names the
    option `--encoding`.
    """
    bom = next((name for mark, name in BOMS.items() if data.startswith(mark)), None)
    asked = None if trust_utf8 and decoded(data, "utf-8") is not None else encoding
    if bom or asked:
        return decode_as(data, path, bom or asked or "")
    name = utf16_without_mark(data) or "utf-8"
    text = decoded(data, name)
    return (text, name) if text is not None else decode_local(data, path, known)


def decode_as(data: bytes, path: object, encoding: str) -> tuple[str, str]:
    """Decode strictly. Raises UnknownEncoding that says where it fails."""
    try:
        return data.decode(encoding), encoding
    except LookupError:
        raise UnknownEncoding(
            f"--encoding {encoding} is not known: utf-8, utf-16, cp1252, gb18030 and others are"
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnknownEncoding(
            f"{path} is not {encoding} (line {line}): name its encoding with --encoding"
        ) from None


def decoded(data: bytes, encoding: str) -> str | None:
    """The text, or None where the bytes are not of this encoding."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def utf16_without_mark(data: bytes) -> str | None:
    """UTF-16 tells itself by its zero bytes: every second one, since separators are ASCII."""
    half = len(data) // 2
    if half and data[1::2].count(0) > half / 4 and not data[::2].count(0):
        return "utf-16-le"
    if half and data[::2].count(0) > half / 4 and not data[1::2].count(0):
        return "utf-16-be"
    return None


def decode_local(data: bytes, path: object, known: Iterable[str]) -> tuple[str, str]:
    """The text and encoding of the reading that has known names, or whose letters fit by far best.

    Raises UnknownEncoding where there is none.
    """
    names: dict[str, str] = {}
    likelihoods: dict[str, float] = {}
    weighed = telling(data)
    for name, weigh in ENCODINGS.items():
        text = decoded(data, name)
        if text is not None:
            found = likelihood(decoded(weighed, name) or "", weigh) + math.log(SELDOM.get(name, 1))
            if found > likelihoods.get(text, -math.inf):  # two encodings may read the same
                names[text], likelihoods[text] = name, found
    ranked = sorted(names, key=lambda text: -likelihoods[text])
    best = best_known(ranked, known) or (ranked and surely_best(ranked, likelihoods))
    if best:
        return best, names[best]
    readings = "; ".join(f"{names[text]} reads {first_word(text)!r}" for text in ranked[:3])
    raise UnknownEncoding(
        f"{path} is not UTF-8 and its encoding cannot be told ({readings or 'none fits'}):"
        " name it with --encoding"
    )


def telling(data: bytes) -> bytes:
    """Lines with more than ASCII in them, without words of any length; the same for all readings.

    They are cut at bytes that are no part of a letter in any of the encodings.
    """
    found, left = [], MAX_WEIGHED
    for line in data.splitlines():
        if not line.isascii() and left > 0:
            kept = BYTES_WORD.sub(lambda w: w[0] if len(w[0]) <= MAX_WORD else b"", line)
            found.append(kept)
            left -= len(kept)
    return b"\n".join(found)


def best_known(texts: Sequence[str], known: Iterable[str]) -> str | None:
    """The reading with the most known names, where no other has as many."""
    odd = {unicodedata.normalize("NFC", name) for name in known if not name.isascii()}
    numbers = {text: len(odd.intersection(cell_names(text))) for text in texts} if odd else {}
    most = [text for text in numbers if numbers[text] == max(numbers.values()) > 0]
    return most[0] if len(most) == 1 else None


def cell_names(text: str) -> set[str]:
    """Cells, and paths in them without folders and suffix."""
    cells = {cell.strip() for cell in CELL_END.split(text)}
    return cells | {without_suffix(cell) for cell in cells}


def surely_best(ranked: Sequence[str], likelihoods: Mapping[str, float]) -> str | None:
    """The first reading, where it is plausible and far more likely than all others together."""
    best = ranked[0]
    letters = sum(not char.isascii() for word in odd_words(best) for char in word)
    rest = sum(math.exp(likelihoods[text] - likelihoods[best]) for text in ranked[1:])
    plausible = likelihoods[best] > letters * math.log(PLAUSIBLE)
    return best if plausible and 1 / (1 + rest) >= SURE else None


def odd_words(text: str) -> list[str]:
    """Words that are not plain ASCII, each once."""
    words = {found[0] for found in WORD.finditer(text) if not found[0].isascii()}
    return sorted(words)[:MAX_WORDS]


def first_word(text: str) -> str:
    """The first word that is not plain ASCII, by which a reader tells a right reading."""
    return next((w[0][:20] for w in WORD.finditer(text) if not w[0].isascii()), "")


def likelihood(text: str, weigh: Callable[[str, str], float]) -> float:
    """Logarithm of how likely the words' letters are, each with the character before it."""
    pairs = [pair for word in odd_words(text) for pair in pairwise(f" {word}")]
    return sum(
        math.log(RARE if before.islower() and char.isupper() else max(weigh(char, before), RARE))
        for before, char in pairs
        if not char.isascii() or (char.isupper() and not before.isascii())
    )

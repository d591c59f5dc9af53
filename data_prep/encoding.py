"""The bytes of a table -> its text. An encoding is known, or told by the letters, or asked for.

Nothing is ever replaced: a label of damaged letters would join another class. General detectors
are trained on prose and read most tables of a few short words wrongly (charset-normalizer 3.5 took
seven of twelve for another language's), so here the few usual local encodings are compared by how
well every letter fits, and where two of them fit alike the user is asked.
"""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from data_prep.image_names import without_suffix

BOMS = {  # the longer of two that begin alike first
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SURE = 0.95  # share of the likelihood that one reading must have
RARE = 1e-9  # likelihood of a character that words of an encoding's languages hardly have
PLAUSIBLE = 1e-5  # mean likelihood of a character below which a reading is none
MAX_WORDS = 2000  # of different words that are weighed
CELL_END = re.compile(r"[,;\t|\r\n\"]+")
WORD = re.compile(r"[^\s,;|\"]*[^\x00-\x7f][^\s,;|\"]*")

WESTERN = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœß"  # cp1252
CENTRAL = "ąáâäćçčďęéěëľłíîńňóôöŕśšşťúůüýźżžřőű"  # cp1250
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
GREEK = "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώ"
KANA = re.compile("[\u3041-\u3096\u30a1-\u30fc]")
HANGUL = re.compile("[\uac00-\ud7a3]")


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
    texts = {name: decoded(data, name) for name in ENCODINGS}
    names = {text: name for name, text in reversed(texts.items()) if text is not None}
    likelihoods = {text: likelihood(text, ENCODINGS[name]) for text, name in names.items()}
    ranked = sorted(names, key=lambda text: -likelihoods[text])
    best = best_known(ranked, known) or (ranked and surely_best(ranked, likelihoods))
    if best:
        return best, names[best]
    readings = "; ".join(f"{names[text]} reads {first_word(text)!r}" for text in ranked[:3])
    raise UnknownEncoding(
        f"{path} is not UTF-8 and its encoding cannot be told ({readings or 'none fits'}):"
        " name it with --encoding"
    )


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
    return sorted(set(WORD.findall(text)))[:MAX_WORDS]


def first_word(text: str) -> str:
    """The first word that is not plain ASCII, by which a reader tells a right reading."""
    found = WORD.search(text)
    return found.group()[:20] if found else ""


def likelihood(text: str, weigh: Callable[[str, str], float]) -> float:
    """Logarithm of how likely the words' letters are, each with the character before it."""
    return sum(
        math.log(RARE if before.islower() and char.isupper() else max(weigh(char, before), RARE))
        for word in odd_words(text)
        for before, char in pairwise(f" {word}")
        if not char.isascii()
    )


def alphabet(letters: str, char: str) -> float:
    """Letters of an alphabet are alike likely, capitals a ninth of that."""
    if char in letters:
        return 0.9 / len(letters)
    return 0.1 / len(letters) if char.lower() in letters else RARE


def latin(letters: str, char: str, before: str) -> float:
    """Letters with marks stand among plain ones."""
    return alphabet(letters, char) * (1 if before.isascii() else 0.02)


def other_script(letters: str, char: str, before: str) -> float:
    """Latin letters do not stand in the same word."""
    return RARE if is_latin(before) else alphabet(letters, char)


def is_latin(char: str) -> bool:
    """Whether it is a plain letter."""
    return char.isascii() and char.isalpha()


def chinese(char: str, before: str) -> float:
    """GB 2312 has 3,755 common characters in the rows B0 to D7, 3,008 seldom ones after them."""
    row = first_byte(char, "gb2312")
    if is_latin(before) or row < 0xB0:
        return RARE
    return 0.95 / 3755 if row <= 0xD7 else 0.04 / 3008


def traditional_chinese(char: str, before: str) -> float:
    """Big5 has 5,401 common characters in the rows A4 to C6."""
    common = 0xA4 <= first_byte(char, "big5") <= 0xC6
    return 0.95 / 5401 if common and not is_latin(before) else RARE


def japanese(char: str, before: str) -> float:
    """170 kana, about half of a text, and the 2,965 common characters of JIS X 0208."""
    if is_latin(before):
        return RARE
    if KANA.match(char):
        return 0.5 / 170
    return 0.45 / 2965 if 0xB0 <= first_byte(char, "euc_jp") <= 0xCF else RARE


def korean(char: str, before: str) -> float:
    """The 2,350 syllables of KS X 1001."""
    common = HANGUL.match(char) and first_byte(char, "euc_kr")
    return 0.95 / 2350 if common and not is_latin(before) else RARE


def first_byte(char: str, encoding: str) -> int:
    """Of the character; zero where the encoding lacks it."""
    return (char.encode(encoding, "ignore") or b"\0")[0]


ENCODINGS: dict[str, Callable[[str, str], float]] = {
    "cp1252": partial(latin, WESTERN),
    "cp1250": partial(latin, CENTRAL),
    "mac-roman": partial(latin, WESTERN),
    "cp850": partial(latin, WESTERN),
    "cp1251": partial(other_script, CYRILLIC),
    "koi8-r": partial(other_script, CYRILLIC),
    "cp1253": partial(other_script, GREEK),
    "gb18030": chinese,
    "big5": traditional_chinese,
    "cp932": japanese,
    "cp949": korean,
}
"""Encoding -> how likely a character is in a word of its languages, after the one before it."""

"""How likely a character is in a label, for each of the usual local encodings of its languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

RARE = 1e-9  # likelihood of a character that words of an encoding's languages hardly have

WESTERN = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœß"  # cp1252
CENTRAL = "ąáâäćçčďęéěëľłíîńňóôöŕśšşťúůüýźżžřőű"  # cp1250
TURKISH = "çğıöşüâîû"
# The most frequent letter first, about as in running text
CYRILLIC = "оеаинтсрвлкмпдуяыьзбгчйхжшюцщэфёъ"
GREEK = "αοιετσνηυρπκμλςωδγχθφβξζψάέήίόύώ"
HEBREW = "יוהלאתרבמנשםדקעחכפטסגןצזךףץ"
ARABIC = "اليمنرتوبدعهكفسقحجشةطصىخذغضثئأزظءؤآإ"
THAI = "านรกเองมลวสตยทดปคหใพแขจบชไธโผถซณษศฉฝญฟฐฮฆฎภฬฏำะ"
THAI_MARKS = "ัิีึืุู็่้๊๋์"  # above or below the letter before
KANA = re.compile("[\u3041-\u3096\u30a1-\u30fc]")
HANGUL = re.compile("[\uac00-\ud7a3]")


def latin(letters: str, char: str, before: str) -> float:
    """Letters with marks, alike likely, stand among plain ones; capitals a ninth of that."""
    share = 0.9 if char in letters else 0.1 if char.lower() in letters else 0.0
    return share / len(letters) * (1 if before.isascii() else 0.02)


def other_script(letters: str, char: str, before: str) -> float:
    """Shares of an alphabet fall from letter to letter; Latin ones are not in the same word."""
    place = letters.find(char.lower())
    if place < 0 or is_latin(before):
        return RARE
    share = (len(letters) - place) / (len(letters) * (len(letters) + 1) / 2)
    if char == char.lower():
        return share * 0.9
    return share * (0.1 if not before.isalpha() or before.isupper() else 0.001)


def thai(char: str, before: str) -> float:
    """Marks make a quarter of a text, and none of them begins a word."""
    if char in THAI_MARKS:
        return 0.25 / len(THAI_MARKS) if before in THAI else RARE
    return 0.75 * other_script(THAI, char, before)


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
    """The 2,350 syllables of KS X 1001; Python writes the others in eight bytes."""
    common = HANGUL.match(char) and len(char.encode("euc_kr", "ignore")) == 2
    return 0.95 / 2350 if common and not is_latin(before) else RARE


def first_byte(char: str, encoding: str) -> int:
    """Of the character; zero where the encoding lacks it."""
    return (char.encode(encoding, "ignore") or b"\0")[0]


ENCODINGS: dict[str, Callable[[str, str], float]] = {
    "cp1252": partial(latin, WESTERN),
    "cp1254": partial(latin, TURKISH),
    "cp1250": partial(latin, CENTRAL),
    "mac-roman": partial(latin, WESTERN),
    "cp850": partial(latin, WESTERN),
    "cp1251": partial(other_script, CYRILLIC),
    "koi8-r": partial(other_script, CYRILLIC),
    "cp866": partial(other_script, CYRILLIC),
    "iso8859-5": partial(other_script, CYRILLIC),
    "mac-cyrillic": partial(other_script, CYRILLIC),
    "cp1253": partial(other_script, GREEK),
    "cp1255": partial(other_script, HEBREW),
    "cp1256": partial(other_script, ARABIC),
    "cp874": thai,
    "gb18030": chinese,
    "big5": traditional_chinese,
    "cp932": japanese,
    "euc_jp": japanese,
    "cp949": korean,
}
"""Encoding -> how likely a character is in a word of its languages, after the one before it."""

SELDOM = {"cp866": 0.05, "iso8859-5": 0.01, "mac-cyrillic": 0.005, "cp874": 0.3, "euc_jp": 0.1}
"""Encodings of tables less usual than the others, by so much."""

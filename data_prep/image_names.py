"""The parts of an image file's name."""

from __future__ import annotations

import os

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib .tif .tiff".split())
"""Of the formats that `decode` reads, in small letters."""


def stem(path: str) -> str:
    """The file's name without folders and suffix."""
    return os.path.splitext(path.rsplit("/", 1)[-1])[0]


def suffix(path: str) -> str:
    """The file's suffix in small letters, with the dot; empty where it is none of an image."""
    ending = os.path.splitext(path)[1].lower()
    return ending if ending in IMAGE_SUFFIXES else ""


def without_suffix(path: str) -> str:
    """The last part of the path, without the suffix of an image."""
    name = path.rsplit("/", 1)[-1]
    return stem(name) if suffix(name) else name

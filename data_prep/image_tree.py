"""All image files below a folder, each with its id."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.files import printable
from data_prep.image_names import stem, suffix
from data_prep.safe_names import is_line

ASIDE = ".prepare"  # inside a prepared folder: what was unpacked, facts of the images, the lock
MACOSX = "__MACOSX"  # what macOS adds to archives: no image of the user's


@dataclass(frozen=True)
class ImageTree:
    """Image files by their path below the folder, with `/` between its parts."""

    folder: Path
    files: Mapping[str, str] = field(default_factory=dict)
    """Path below the folder -> the file to read; a link is followed."""
    others: tuple[str, ...] = ()
    """Sorted paths of what is no image by its name, hidden, or cannot be opened."""

    def ids(self) -> dict[str, str]:
        """Path below the folder -> id of the image: see `image_ids`."""
        return image_ids(self.files)

    def folders(self) -> Counter[str]:
        """Folder directly below this one -> number of images in and below it."""
        return Counter(path.split("/", 1)[0] for path in self.files if "/" in path)


def image_ids(paths: Collection[str]) -> dict[str, str]:
    """Path -> the file's name without suffix where that is unique among them, else the path."""
    stems = {path: stem(path) for path in paths}
    count = Counter(stems.values())
    return {
        path: name if count[name] == 1 and name not in stems else path
        for path, name in stems.items()
    }


def find_images(folder: Path, skip: Collection[Path] = ()) -> ImageTree:
    """Look below `folder`; the folders in `skip` are left out.

    Where no file has the suffix of an image, files without any suffix are taken for images.
    """
    files: dict[str, str] = {}
    bare: dict[str, str] = {}
    others: list[str] = []
    left_out = frozenset(os.path.realpath(path) for path in skip)
    for path, entry in sorted(walk(str(folder), "", left_out), key=lambda found: found[0]):
        usable = is_visible(path) and os.path.isfile(entry)  # no folder, no broken link
        if usable and (suffix(path) or "." not in entry.name):
            chosen = files if suffix(path) else bare
            chosen[path] = os.path.realpath(entry) if entry.is_symlink() else entry.path
        else:
            others.append(printable(path))
    if files:
        return ImageTree(folder, files, tuple(sorted([*others, *bare])))
    return ImageTree(folder, bare, tuple(others))


def walk(folder: str, inside: str, left_out: Set[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file and empty folder below the folder, with its path; `left_out` are real paths.

    Folders that `prepare` made are left out as well.
    """
    here = left_out | {os.path.realpath(folder)}  # a link to a folder above would have no end
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:  # no permission
        return
    if any(entry.name == ASIDE for entry in found):
        return
    for entry in found:
        path = f"{inside}{entry.name}"
        if not os.path.isdir(entry) or is_empty(entry):  # `entry.is_dir` fails at a link to itself
            yield path, entry
        elif entry.name != MACOSX and os.path.realpath(entry.path) not in here:
            yield from walk(entry.path, f"{path}/", here)


def is_empty(folder: os.DirEntry[str]) -> bool:
    """Whether a folder has nothing in it."""
    try:
        return not os.listdir(folder)
    except OSError:  # no permission
        return True


def is_visible(path: str) -> bool:
    """Whether no part of the path is hidden, and it is one line of text."""
    return is_line(path) and not any(part.startswith(".") for part in path.split("/"))

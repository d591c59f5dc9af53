"""Which image file an id of a table means: exactly, or up to case, zeros and suffix."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_prep.image_names import stem, suffix, without_suffix

ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


@dataclass(frozen=True)
class Matches:
    """The ids of a table and the image files that they mean."""

    found: dict[str, str]
    """Id as the table has it -> path of the image below its folder."""
    loosely: list[str]
    """Ids in `found` that the file's name has only up to case, leading zeros or accents."""
    near: list[str]
    """`id: path, path` of ids without a file that resemble more than one, or share one."""


class FileIndex:
    """Image files by every name that an id may give them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self.paths):
            self.by_stem[stem(path)].append(path)

    def find(self, name: str) -> str | None:
        """The one image that `name` means, with or without suffix and folders, or None.

        The folders that both have must be the same: `birds/001.jpg` is no `dogs/001.jpg`, but it is
        the file `001.jpg` of a folder without sub-folders.
        """
        wanted = name.replace("\\", "/").removeprefix("./")
        if wanted in self.paths:
            return wanted
        fits = self.by_stem.get(wanted, [])
        if len(fits) == 1:  # the most usual case, for speed
            return fits[0]
        for name_stem in dict.fromkeys((wanted.rsplit("/", 1)[-1], without_suffix(wanted))):
            fits = [path for path in self.by_stem.get(name_stem, ()) if same_folder(wanted, path)]
            fits = closest(fits, wanted)
            if len(fits) == 1:
                return fits[0]
        return None


def same_folder(one: str, other: str) -> bool:
    """Whether the folders of two paths, as far as both have them, are the same from the file up."""
    parts = one.replace("\\", "/").split("/")
    pairs = zip(parts[-2::-1], other.split("/")[-2::-1], strict=False)
    return all(a == b for a, b in pairs)


def closest(paths: list[str], wanted: str) -> list[str]:
    """Of several files those with the wanted suffix, and of these the one in the same folder."""
    same_suffix = [path for path in paths if suffix(path) == suffix(wanted)] or paths
    folder = wanted.rpartition("/")[0]
    return [path for path in same_suffix if path.rpartition("/")[0] == folder] or same_suffix


def match(names: Iterable[str], paths: Iterable[str]) -> Matches:
    """The image of each name; a name that has none exactly may have one that is nearly the same.

    A near one counts where neither another name nor another image without a name resembles it, and
    the folders that both have are the same.
    """
    index = FileIndex(paths)
    wanted = list(dict.fromkeys(names))
    found = {name: path for name in wanted if (path := index.find(name)) is not None}
    missing = near_names(name for name in wanted if name not in found)
    free = near_names(index.paths.difference(found.values()))
    loosely: list[str] = []
    near: list[str] = []
    for key, few in missing.items():
        alone = len(few) == len(free.get(key, ())) == 1
        if alone and same_folder(few[0].casefold(), free[key][0].casefold()):
            found[few[0]] = free[key][0]
            loosely.append(few[0])
        elif key in free:
            near += [f"{name}: {', '.join(sorted(free[key])[:3])}" for name in few]
    return Matches(found, sorted(loosely), sorted(near))


def near_names(names: Iterable[str]) -> Mapping[str, list[str]]:
    """Names by what is left of them without folders, suffix, capitals and leading zeros."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        plain = unicodedata.normalize("NFC", without_suffix(name.replace("\\", "/"))).casefold()
        groups[ZEROS.sub("", plain)].append(name)
    return groups

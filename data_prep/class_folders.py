"""Folders whose names are the classes: `train/<class>/...`, or `<class>/...` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from data_prep.image_tree import ImageTree
from data_prep.safe_names import composed


def without_wrappers(tree: ImageTree, names: Collection[str]) -> ImageTree:
    """The tree below the folders that only wrap the class folders: `train/` in `train/train/cat/`.

    A folder that is alone is one when it has one of the `names`, or holds several folders and
    nothing else: as a class it would be the only one.
    """
    while (inner := only_folder(tree.files)) is not None:
        below = [path.split("/", 1)[1] for path in tree.files]
        if inner not in names and (
            len(Counter(top_folder(path) for path in below)) < 2 or "" in map(top_folder, below)
        ):
            return tree
        tree = ImageTree(
            tree.folder / inner,
            {path.split("/", 1)[1]: file for path, file in tree.files.items()},
            tuple(path.removeprefix(f"{inner}/") for path in tree.others),
        )
    return tree


def only_folder(paths: Iterable[str]) -> str | None:
    """The folder that all images lie below, if it is one."""
    tops = {top_folder(path) for path in paths}
    (only,) = tops if len(tops) == 1 else ("",)
    return only or None


def top_folder(path: str) -> str:
    """The first folder of a path; empty for a file that is in none."""
    return path.split("/", 1)[0] if "/" in path else ""


def class_labels(tree: ImageTree) -> dict[str, str]:
    """Path of each image in a class folder, at any depth -> the class."""
    return {path: composed(top) for path in tree.files if (top := top_folder(path))}


def empty_classes(tree: ImageTree) -> list[str]:
    """Class folders without a usable image: empty ones, and those with other files only."""
    used = set(class_labels(tree).values())
    tops = {top_folder(path) or path for path in tree.others}
    empty = {composed(top) for top in tops if is_folder(tree.folder / top)}
    return sorted(empty - used)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; a hidden one is never a class."""
    return not path.name.startswith(".") and path.is_dir()

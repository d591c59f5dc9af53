"""The split plan as folders of hard links: train/ valid/ train_valid/ test/unknown.

A tree is compared with the plan and only the difference is made, so that a call finishes what an
interrupted one began, and changes nothing where nothing is to be done.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from data_prep.files import remove_folder
from data_prep.image_names import suffix
from data_prep.progress import Track, no_progress
from data_prep.safe_names import safe_names
from data_prep.split import TRAIN, VALID

TRAIN_VALID, TEST = "train_valid", "test"
TREES = (TRAIN, VALID, TRAIN_VALID, TEST)
PARTIAL = ".partial-"

Links = Mapping[str, str]
"""Path inside the prepared folder -> path of the file that it links to."""


def tree_names(labels: Mapping[str, str], paths: Mapping[str, str]) -> dict[str, str]:
    """Key (`train/<id>`, `test/<id>`) -> where all images lie: in train_valid and in test.

    `labels` is id -> label, `paths` key -> path in the source, whose suffix the file keeps. Labels
    and ids that are no file names get names that are.
    """
    folders = safe_names(labels.values())
    wanted = {key: file_name(key.split("/", 1)[1], path) for key, path in paths.items()}
    files = safe_names(wanted.values())
    names: dict[str, str] = {}
    for key, name in wanted.items():
        part, image = key.split("/", 1)
        if part == TEST:
            names[key] = f"{TEST}/unknown/{files[name]}"
        elif image in labels:
            names[key] = f"{TRAIN_VALID}/{folders[labels[image]]}/{files[name]}"
    return names


def file_name(image: str, path: str) -> str:
    """`<id>.png`; the path where that is the id."""
    return path if image == path else image + suffix(path)


def organise(
    root: Path,
    names: Mapping[str, str],
    plan: Mapping[str, str],
    files: Mapping[str, str],
    complete: Path,
    track: Track = no_progress,
) -> None:
    """Bring the four trees under `root` to the plan.

    `names` are those of `tree_names`, `files` has the source file for each of its keys, `plan` the
    side for each id. `complete` is removed before the first change: it is the file whose presence
    says that nothing is left to do.
    """
    images = {name: files[key] for key, name in names.items()}
    sync(root, (TRAIN_VALID, TEST), images, complete, track)
    # The sides link to train_valid, so that a download on another disk is copied once.
    inside = {i: names[f"train/{i}"].removeprefix(TRAIN_VALID) for i in plan}
    sides = {plan[i] + rest: f"{root}/{TRAIN_VALID}{rest}" for i, rest in inside.items()}
    sync(root, (TRAIN, VALID), sides, complete, track)


def sync(root: Path, trees: tuple[str, ...], links: Links, complete: Path, track: Track) -> None:
    """Remove from the trees what does not belong there, then link what is missing."""
    kept: set[str] = set()
    stale: list[str] = []
    for name in (name for tree in trees for name in walk(root, tree)):
        if name in links and is_link_to(f"{root}/{name}", links[name]):
            kept.add(name)
        else:
            stale.append(name)
    missing = [name for name in links if name not in kept]
    if stale or missing:
        complete.unlink(missing_ok=True)
    for name in stale:
        os.unlink(root / name)
    for tree in trees:
        remove_empty(root / tree)
    for folder in {(root / name).parent for name in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in track(missing, len(missing), f"link {' and '.join(trees)}"):
        link_or_copy(links[name], root / name)


def walk(root: Path, name: str) -> Iterator[str]:
    """Names, inside `root`, of all files below `name`; links are files, never followed."""
    path = root / name
    if path.is_symlink() or path.is_file():
        yield name
    elif path.is_dir():
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                yield from walk(root, f"{name}/{entry.name}")
            else:
                yield f"{name}/{entry.name}"


def is_link_to(path: str, source: str) -> bool:
    """Whether the path is a hard link to the source, or a copy as far as size and time tell."""
    ours, theirs = os.lstat(path), os.stat(source)
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
        return True
    same = (ours.st_mode & 0o170000, ours.st_size, ours.st_mtime_ns)
    return same == (theirs.st_mode & 0o170000, theirs.st_size, theirs.st_mtime_ns)


def link_or_copy(source: str, path: Path) -> None:
    """Hard link; a copy where the file system, the disk or the permissions do not allow one."""
    try:
        os.link(source, path)
    except OSError:
        aside = path.with_name(PARTIAL + path.name)
        shutil.copy2(source, aside)
        os.replace(aside, path)


def remove_empty(folder: Path) -> None:
    """Remove empty folders below and including this one."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it is not empty
            os.rmdir(parent)


def place_file(source: Path | None, path: Path) -> None:
    """Link or copy one file to `path`, or remove what is there when there is no source."""
    if source is not None and path.is_file() and is_link_to(str(path), str(source)):
        return
    remove_folder(path)
    if source is not None:
        link_or_copy(os.path.realpath(source), path)

"""Kaggle's download: what its files are called, and where they lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.files import whole_folder
from data_prep.progress import Track, no_progress
from data_prep.unpack import ARCHIVE_SUFFIXES, unpack


@dataclass(frozen=True)
class KaggleLayout:
    """The file names of one Kaggle competition, and the size its images are packed in."""

    task: str
    """The task's name; `data/<task>` is its folder."""
    labels: str
    """Name of the CSV of labels, which has the columns `id` and `label_column`."""
    label_column: str
    suffix: str
    """Suffix of every image file, with the dot: `<id>.png`."""
    sample_submission: str
    test_labels: str | None = None
    """Name of an answer key for the test images (`id,label`), where there is one."""
    image_size: int | None = None
    """Side of the square that all images have, in pixels (others are resized to it)."""
    short_side: int | None = None
    """Instead of `image_size`: images keep their shape, the short side at most this, in pixels."""
    train_folders: tuple[str, ...] = ("train",)
    """Names that the folder of labelled images goes by; the first that exists counts."""
    test_folders: tuple[str, ...] = ("test",)
    write_source: Callable[[Path], None] | None = None
    """Writes the download into a folder, for data that needs no download."""

    def __post_init__(self) -> None:
        if (self.image_size is None) == (self.short_side is None):
            raise ValueError(f"layout of {self.task}: give either image_size or short_side")


@dataclass(frozen=True)
class SourceFiles:
    """Where the parts of an unpacked download lie. `None`: the download has no such part."""

    train: Path
    labels: Path
    test: Path | None
    sample_submission: Path | None
    test_labels: Path | None
    left_packed: tuple[str, ...] = ()
    """Members of archives that were not unpacked: unsafe names, links, damaged ones."""


def find_source(
    layout: KaggleLayout, source: Path | None, aside: Path, track: Track = no_progress
) -> SourceFiles:
    """The parts of the download in `source`; archives are unpacked into the folder `aside`.

    `source` is only read. Without one, data that needs no download is written to `aside`.
    Raises ValueError when the folder or the labelled images cannot be found.
    """
    left_packed: tuple[str, ...] = ()
    if source is None:
        found = find_parts(layout, written_source(layout, aside))
    elif not source.is_dir():
        raise ValueError(f"--source {source} is not a folder: name the folder of Kaggle's download")
    else:
        found = find_parts(layout, source)
        missing = {part: names for part, names in part_names(layout).items() if part not in found}
        archives = find_archives(source)
        if missing and archives:
            left_packed = unpack(archives, missing, aside / "unpacked", track)
            found |= {
                part: path
                for part, path in find_parts(layout, aside / "unpacked").items()
                if part in missing
            }
    if "train" not in found or "labels" not in found:
        raise ValueError(
            f"{source} does not hold {layout.labels} and images in {layout.train_folders[0]}/ (nor"
            f" archives with them): name the folder of Kaggle's {layout.task} download as --source"
        )
    return SourceFiles(
        train=found["train"],
        labels=found["labels"],
        test=found.get("test"),
        sample_submission=found.get("sample_submission"),
        test_labels=found.get("test_labels"),
        left_packed=left_packed,
    )


def part_names(layout: KaggleLayout) -> dict[str, tuple[str, ...]]:
    """Part of the download -> the names it goes by."""
    return {
        "train": layout.train_folders,
        "test": layout.test_folders,
        "labels": (layout.labels,),
        "sample_submission": (layout.sample_submission,),
        "test_labels": (layout.test_labels,) if layout.test_labels else (),
    }


def find_parts(layout: KaggleLayout, folder: Path) -> dict[str, Path]:
    """The parts that lie unpacked in the folder."""
    found: dict[str, Path] = {}
    for part, names in part_names(layout).items():
        present = is_filled_folder if part in ("train", "test") else Path.is_file
        paths = [folder / name for name in names if present(folder / name)]
        if paths:
            found[part] = paths[0]
    return found


def is_filled_folder(path: Path) -> bool:
    """Whether the path is a folder with something in it."""
    return path.is_dir() and bool(os.listdir(path))


def find_archives(folder: Path) -> Sequence[Path]:
    """The archives that lie in the folder, in the order of their names."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return [folder / name for name in names if Path(name).suffix.lower() in ARCHIVE_SUFFIXES]


def written_source(layout: KaggleLayout, aside: Path) -> Path:
    """The folder of a download that the task writes itself, written on the first call."""
    if layout.write_source is None:
        raise ValueError(f"{layout.task} needs Kaggle's download: pass its folder as --source DIR")
    folder = aside / "source"
    if not folder.is_dir():
        with whole_folder(folder) as partial:
            layout.write_source(partial)
    return folder

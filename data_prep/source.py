"""The source as the user has it: which folder or table holds what, archives unpacked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.archives import is_archive
from data_prep.files import whole_folder
from data_prep.layout import FOUND, Layout, SourceOptions
from data_prep.parts import Parts, find_parts, folders, has_images
from data_prep.progress import Track, no_progress
from data_prep.unpack import unpack

KaggleLayout = Layout


@dataclass(frozen=True)
class SourceFiles:
    """Where the parts of an unpacked source lie. `None`: the source has no such part."""

    train: Path
    """Labelled images: files that a table names, or class folders."""
    valid: Path | None
    """Class folders that are the validation side; the split is then the source's own."""
    test: Path | None
    labels: Path | None
    """The table of labels, where the layout or the user names one."""
    tables: tuple[Path, ...]
    """Other tables, of which one may be that of the labels."""
    sample_submission: Path | None
    test_labels: Path | None
    left_packed: tuple[str, ...] = ()
    """Members of archives that were not unpacked: unsafe names, links, damaged ones."""
    apart: tuple[Path, ...] = ()
    """Folders inside `train` that are parts of their own, and so hold no labelled image."""
    roots: tuple[Path, ...] = ()
    """The folders that were searched: the source, and what was unpacked."""


def find_source(
    layout: Layout,
    source: Path | None,
    aside: Path,
    track: Track = no_progress,
    options: SourceOptions = FOUND,
) -> SourceFiles:
    """The parts of the data in `source`; archives are unpacked into the folder `aside`.

    `source` is only read. Without one, data that needs no download is written to `aside`.
    Raises ValueError when the folder or the labelled images cannot be found.
    """
    left_packed: tuple[str, ...] = ()
    if source is None:
        source = written_source(layout, aside)
    elif source.is_file() and is_archive(source.name):
        left_packed = unpack([source], frozenset(), aside / "unpacked", track, options.encoding)
        source = aside / "unpacked"
    elif not source.is_dir():
        raise ValueError(
            f"--source {source} is neither a folder nor an archive: name that of the images"
        )
    parts = find_parts(layout, source)
    roots: tuple[Path, ...] = (source,)
    archives = find_archives(source)
    if archives and not is_complete(layout, parts):
        unpacked = aside / "unpacked"
        left_packed = unpack(archives, present_names(parts), unpacked, track, options.encoding)
        parts = joined(parts, find_parts(layout, unpacked))
        roots = (source, unpacked)
    named = named_by_user(options, source)
    labels = named.labels or parts.labels
    train, apart = labelled_folder(layout, parts, labels is not None, named.image_folder)
    if train is None or not (labels or parts.tables or has_classes(train)):
        raise ValueError(not_found(layout, source))
    valid = parts.valid if labels is None and train == parts.train else None
    return SourceFiles(
        train=train,
        valid=valid,
        test=parts.test,
        labels=labels,
        tables=parts.tables if labels is None else (),
        sample_submission=parts.sample_submission,
        test_labels=parts.test_labels,
        left_packed=left_packed,
        apart=apart,
        roots=roots,
    )


def is_complete(layout: Layout, parts: Parts) -> bool:
    """Whether every part that the layout names lies there already, so that no archive is needed."""
    wanted = [parts.train, parts.test]
    wanted += [parts.labels] if layout.labels else []
    wanted += [parts.sample_submission] if layout.sample_submission else []
    wanted += [parts.test_labels] if layout.test_labels else []
    return None not in wanted


def present_names(parts: Parts) -> frozenset[str]:
    """Names of the folders and files that are not to be unpacked again."""
    found = (parts.train, parts.valid, parts.test, parts.labels)
    more = (parts.sample_submission, parts.test_labels, *parts.tables, *image_folders(parts))
    return frozenset(path.name for path in (*found, *more) if path is not None)


def image_folders(parts: Parts) -> list[Path]:
    """Folders beside the parts that hold images: those of classes, most likely."""
    return [path for path in folders(parts.base) if has_images(path)]


def joined(parts: Parts, unpacked: Parts) -> Parts:
    """What lies in the folder, and what it lacks from the archives."""
    return replace(
        parts,
        base=parts.base if parts.train or image_folders(parts) else unpacked.base,
        train=parts.train or unpacked.train,
        valid=parts.valid or unpacked.valid,
        test=parts.test or unpacked.test,
        labels=parts.labels or unpacked.labels,
        sample_submission=parts.sample_submission or unpacked.sample_submission,
        test_labels=parts.test_labels or unpacked.test_labels,
        tables=(*parts.tables, *unpacked.tables),
    )


def named_by_user(options: SourceOptions, source: Path) -> SourceOptions:
    """The options with paths that exist. Raises ValueError for one that does not."""
    found: dict[str, Path] = {}
    for option, path in (("labels", options.labels), ("image_folder", options.image_folder)):
        if path is None:
            continue
        exists = Path.is_file if option == "labels" else Path.is_dir
        places = [place for place in (path, source / path) if exists(place)]
        if not places:
            kind = "file" if option == "labels" else "folder"
            raise ValueError(
                f"--{option.replace('_', '-')} {path}: no such {kind}, here or in {source}"
            )
        found[option] = places[0]
    return replace(options, labels=found.get("labels"), image_folder=found.get("image_folder"))


def labelled_folder(
    layout: Layout, parts: Parts, has_table: bool, named: Path | None
) -> tuple[Path | None, tuple[Path, ...]]:
    """The folder of the labelled images, and the folders inside it that hold other parts.

    The user's, or `train/`, or the only folder of images, or all of them: classes, most likely.
    """
    if named is not None:
        return named, tuple(path for path in (parts.test,) if path and named in path.parents)
    others = tuple(path for path in (parts.test, parts.valid) if path is not None)
    if parts.train is not None and (has_table or not is_class(parts, others)):
        return parts.train, ()
    filled = [path for path in folders(parts.base) if path not in others and os.listdir(path)]
    tables = has_table or bool(parts.tables)
    if len(filled) == 1 and not has_images(parts.base) and (tables or not has_images(filled[0])):
        return filled[0], ()
    return (parts.base if filled or has_images(parts.base) else None), others


def is_class(parts: Parts, others: Sequence[Path]) -> bool:
    """Whether `train/` is the class of trains: images alone, beside other folders of images."""
    assert parts.train is not None
    beside = [path for path in folders(parts.base) if path != parts.train and path not in others]
    return not folders(parts.train) and not parts.tables and any(map(has_images, beside))


def has_classes(folder: Path) -> bool:
    """Whether there are folders inside, or images in it as the one class."""
    return bool(folders(folder)) or has_images(folder)


def not_found(layout: Layout, source: Path) -> str:
    """The one line that says what the source lacks."""
    train = layout.train_folders[0]
    if layout.labels:
        return (
            f"{source} does not hold {layout.labels} and images in {train}/, nor class folders"
            f" ({train}/<class>/...), nor archives with them: name the folder of the"
            f" {layout.task} data as --source"
        )
    return (
        f"{source} does not hold class folders ({train}/<class>/... or <class>/...), nor a table of"
        " labels with images, nor archives with them: name their folder as --source"
    )


def find_archives(folder: Path) -> Sequence[Path]:
    """The archives that lie in the folder, in the order of their names."""
    names = sorted(entry.name for entry in os.scandir(folder) if os.path.isfile(entry))
    return [folder / name for name in names if is_archive(name)]


def written_source(layout: Layout, aside: Path) -> Path:
    """The folder of a download that the task writes itself, written on the first call."""
    if layout.write_source is None:
        raise ValueError(f"{layout.task} needs Kaggle's download: pass its folder as --source DIR")
    folder = aside / "source"
    if not folder.is_dir():
        with whole_folder(folder) as partial:
            layout.write_source(partial)
    return folder

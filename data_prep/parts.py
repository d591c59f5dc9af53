"""Where the parts of a data set lie in a folder: by their names, wherever a wrapper hides them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.image_names import suffix
from data_prep.image_tree import ASIDE, MACOSX
from data_prep.layout import Layout
from data_prep.tables import is_table

DEPTH = 3  # folders in which the data set itself may be wrapped
VALID_FOLDERS = ("valid", "val", "validation")
WORDS = {"train": "train(?:ing)?", "valid": "val(?:id(?:ation)?)?", "test": "test(?:ing)?"}
PART = re.compile(  # `Training`, `test_set`, `seg_train`, `train_images`
    "(?:.*[ _-])?(?:"
    + "|".join(f"(?P<{part}>{word})" for part, word in WORDS.items())
    + ")(?:[ _-]?(?:set|data|dataset|images?|imgs?))?",
    re.IGNORECASE,
)
SAMPLE_WORDS = ("sample", "submission")
ANSWERS = ("test_labels", "testlabels", "answers", "answer_key", "solution")


@dataclass(frozen=True)
class Parts:
    """What lies in a folder; `None`: it has no such part."""

    base: Path
    """The folder that holds the parts, or the class folders."""
    train: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    labels: Path | None = None
    """The table that the layout names."""
    tables: tuple[Path, ...] = ()
    """Other tables, of which one may be that of the labels."""
    sample_submission: Path | None = None
    test_labels: Path | None = None


def find_parts(layout: Layout, folder: Path) -> Parts:
    """The parts in `folder`, or in the folders that wrap them; tables may lie above the images.

    Raises ValueError when several folders inside could be the one with the labelled images.
    """
    base = find_base(layout, folder)
    places = [base, *(path for path in base.parents if path == folder or folder in path.parents)]
    likely = likely_parts(base)
    train = first_folder([base], layout.train_folders) or likely.get("train")
    beside = [*places, *table_places(base, train)]
    return Parts(
        base=base,
        train=train,
        valid=first_folder([base], VALID_FOLDERS) or likely.get("valid"),
        test=first_folder(places, layout.test_folders) or likely.get("test"),
        labels=named_file(beside, layout.labels),
        sample_submission=named_file(places, layout.sample_submission)
        or next((path for path in tables(places) if is_sample(path)), None),
        test_labels=named_file(places, layout.test_labels)
        or next((path for path in tables(places) if is_answers(path)), None),
        tables=tuple(
            path for path in tables(beside) if not is_sample(path) and not is_answers(path)
        ),
    )


def find_base(layout: Layout, folder: Path) -> Path:
    """The folder, not too deep, that holds `train/`, or else the first with more than one entry."""
    level = [folder]
    passed: list[Path] = []
    for _ in range(DEPTH):
        holding = [path for path in level if first_folder([path], layout.train_folders)]
        if len(holding) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in holding[:3])
            raise ValueError(
                f"{folder} has {layout.train_folders[0]}/ in several folders ({names}): name one of"
                f" them, or put the classes inside it ({layout.train_folders[0]}/<class>/...)"
            )
        passed += [path for path in level if path not in holding]
        if holding and not any(map(has_images, passed)):  # else these are the class folders
            return holding[0]
        level = [inner for path in level for inner in folders(path)]
    base = folder
    for _ in range(DEPTH):
        inner = folders(base)
        if len(inner) != 1 or any(tables([base])) or has_images(base) or has_images(inner[0]):
            break
        base = inner[0]
    return base


def table_places(base: Path, train: Path | None) -> list[Path]:
    """Where tables may lie below: among the images, or in a folder that holds nothing else."""
    inner = folders(base)
    images = [train] if train is not None else inner if len(inner) == 1 else []
    others = [path for path in inner if path not in images]
    return [*images, *(path for path in others if not folders(path) and not has_images(path))]


def likely_parts(base: Path) -> dict[str, Path]:
    """Folders that are parts by words in their names; none of them alone, which may be a class."""
    found: dict[str, list[Path]] = {}
    for path in folders(base):
        match = PART.fullmatch(path.name)
        if match is not None and match.lastgroup is not None and os.listdir(path):
            found.setdefault(match.lastgroup, []).append(path)
    alone = {part: paths[0] for part, paths in found.items() if len(paths) == 1}
    return alone if "train" in alone and len(alone) > 1 else {}


def first_folder(places: Sequence[Path], names: Collection[str]) -> Path | None:
    """The first folder of these names with something in it; names are tried in their order."""
    for place in places:
        by_name = {path.name: path for path in folders(place)}
        lower = {name.lower(): path for name, path in by_name.items()}
        for name in names:
            path = by_name.get(name) or lower.get(name.lower())
            if path is not None and os.listdir(path):
                return path
    return None


def named_file(places: Sequence[Path], name: str | None) -> Path | None:
    """The first file of this name."""
    paths = [place / name for place in places] if name else []
    return next((path for path in paths if path.is_file()), None)


def tables(places: Sequence[Path]) -> Iterator[Path]:
    """Files that are tables by their suffix, in the order of their names."""
    for place in places:
        for name in sorted(os.listdir(place)):
            path = place / name
            if is_table(name) and path.is_file():
                yield path


def folders(place: Path) -> list[Path]:
    """Visible folders directly inside that may be opened, in the order of their names.

    Without those that `prepare` made.
    """
    with os.scandir(place) as entries:
        names = sorted(e.name for e in entries if os.path.isdir(e) and os.access(e.path, os.R_OK))
    paths = [place / name for name in names if name[0] != "." and name != MACOSX]
    return [path for path in paths if not (path / ASIDE).is_dir()]


def has_images(place: Path) -> bool:
    """Whether images lie directly inside."""
    return any(suffix(name) for name in os.listdir(place))


def is_sample(path: Path) -> bool:
    """Whether a table is a sample submission by its name."""
    return any(word in path.stem.lower() for word in SAMPLE_WORDS)


def is_answers(path: Path) -> bool:
    """Whether a table is an answer key by its name."""
    return path.stem.lower() in ANSWERS

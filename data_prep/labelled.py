"""The labelled images of a source, whether a table or folders name their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_prep.class_folders import class_labels, empty_classes, without_wrappers
from data_prep.columns import id_place, is_label_name, label_place, with_labels
from data_prep.image_names import stem, suffix, without_suffix
from data_prep.image_tree import ImageTree, find_images, image_ids
from data_prep.labels import LabelTable, read_labels
from data_prep.layout import Layout, SourceOptions
from data_prep.matching import FileIndex
from data_prep.parts import VALID_FOLDERS, first_folder
from data_prep.source import SourceFiles
from data_prep.split import TRAIN, VALID
from data_prep.tables import Table, read_table


@dataclass(frozen=True)
class Labelled:
    """Labelled images by path below their folder, none of them opened yet."""

    labels: Mapping[str, str]
    files: Mapping[str, str]
    """Path -> file, of every image in the folder, labelled or not."""
    sides: Mapping[str, str]
    """Path -> train or valid, where the source is split already; else empty."""
    rows: int
    seen: Counter[str]
    """Label -> images or rows that have it, usable or not."""
    problems: dict[str, list[str]]
    """What is wrong -> the ids, files or rows for which it is; sorted."""
    notes: list[str] = field(default_factory=list)
    """What was found out and is worth a line."""


def read_labelled(layout: Layout, source: SourceFiles, options: SourceOptions) -> Labelled:
    """Images and labels of the source.

    Raises ValueError when neither a table nor folders name the classes, or a table cannot be read.
    """
    tree = find_images(source.train, skip=source.apart)
    table = choose_table(layout, source, tree, options)
    if table is not None:
        found = read_labels(table, tree.files, options, layout.label_column)
        labelled = from_table(layout, table, tree, found)
        return replace(labelled, notes=[*labelled.notes, *valid_left_out(source)])
    valid = find_images(source.valid) if source.valid is not None else None
    labelled = from_folders(layout, tree, valid)
    if not labelled.labels:
        raise ValueError(
            f"{source.train} holds no class folders with images, and no table names the labels of"
            f" its {len(tree.files)} images: put each class in a folder, or name the table with"
            " --labels"
        )
    return labelled


def valid_left_out(source: SourceFiles) -> list[str]:
    """A line where images of a validation side lie beside those that a table names."""
    valid = source.valid or first_folder([source.train.parent], VALID_FOLDERS)
    if valid is None or valid == source.train or source.train in valid.parents:
        return []
    return [
        f"{valid.name}/ is not used, as a table names the labels: where it names those of"
        f" {valid.name}/ too, --image-folder {source.train.parent} takes both, split anew"
    ]


def choose_table(
    layout: Layout, source: SourceFiles, tree: ImageTree, options: SourceOptions
) -> Table | None:
    """The table of labels: the one named, or the one whose ids mean the images; None for folders.

    Class folders win over a table that no usual name says to hold labels.
    """
    stems = [stem(path) for path in tree.files]
    if source.labels is not None:
        return read_table(source.labels, options.encoding, known=stems)
    has_classes = bool(class_labels(tree))
    if has_classes and source.valid is not None:
        return None
    index = FileIndex(tree.files)
    fits: dict[int, list[Table]] = {}
    for path in source.tables:
        try:
            table = read_table(path, options.encoding, known=stems)
            ids = id_place(table, tree.files, options.id_column)
            if options.label_column is None:
                table, ids = with_labels(table, ids)
            named = options.label_column or layout.label_column
            labels = label_place(table, ids, options.label_column, layout.label_column)
        except ValueError:
            if has_classes or len(source.tables) > 1 or is_text(path):
                continue
            raise
        if has_classes and not (
            is_label_name(table.header[labels]) or table.header[labels] == named
        ):
            continue
        named_files = set(table.column(ids))
        number = sum(index.find(cell) is not None for cell in named_files)
        if has_classes and not number:
            check_folders(table, named_files, index)
        if number or not (has_classes or is_text(path)):
            fits.setdefault(number, []).append(table)
    best = fits[max(fits)] if fits else []
    if len(best) > 1:
        names = ", ".join(table.path.name for table in best)
        raise ValueError(f"any of {names} may be the table of labels: name it with --labels")
    return best[0] if best else None


def check_folders(table: Table, named: Collection[str], index: FileIndex) -> None:
    """Raise ValueError where the folders are no classes but the same images in several forms."""
    several = [
        name for name in sorted(named) if len(index.by_stem.get(without_suffix(name), ())) > 1
    ]
    if 2 * len(several) > len(index.by_stem):
        files = index.by_stem[without_suffix(several[0])]
        raise ValueError(
            f"{table.path}: {several[0]} may be {files[0]} or {files[1]}: name the folder of the"
            " images with --image-folder"
        )


def is_text(path: Path) -> bool:
    """Whether a file may as well be prose: its name does not say that it is a table."""
    return path.suffix.lower() == ".txt"


def from_table(layout: Layout, table: Table, tree: ImageTree, found: LabelTable) -> Labelled:
    """What the table says of the images in the tree."""
    problems = dict(found.problems)
    others = [path for path in tree.others if tree.folder / path != table.path]
    problems["unlabelled_files"] = sorted([*problems["unlabelled_files"], *others])
    notes: list[str] = []
    usual = ("id", layout.label_column)
    if found.columns != usual or table.encoding not in ("utf-8", "utf-8-sig"):
        odd = next((f" as in {name}" for name in found.seen if not name.isascii()), "")
        notes.append(
            f"{table.path.name} ({table.encoding}{odd}): ids in {found.columns[0]!r}, labels in"
            f" {found.columns[1]!r}"
        )
    loosely, near = found.matches.loosely, found.matches.near
    if loosely:
        notes.append(
            f"{len(loosely):,} ids mean a file up to case, accents or leading zeros"
            f" ({loosely[0]}: {found.matches.found[loosely[0]]})"
        )
    if near:
        notes.append(
            f"{len(near):,} ids without a file resemble unlabelled ones up to suffix, case, zeros"
            f" or folder, but not one alone ({near[0]}): rename the files or the ids"
        )
    return Labelled(found.labels, tree.files, {}, found.rows, found.seen, problems, notes)


def from_folders(layout: Layout, tree: ImageTree, valid: ImageTree | None) -> Labelled:
    """What the folders say: each of them is a class."""
    trees = {TRAIN: without_wrappers(tree, layout.train_folders)}
    if valid is not None:
        trees[VALID] = without_wrappers(valid, VALID_FOLDERS)
    labels: dict[str, str] = {}
    files: dict[str, str] = {}
    sides: dict[str, str] = {}
    others: list[str] = []
    seen: Counter[str] = Counter()
    for side, part in trees.items():
        above = f"{side}/" if valid is not None else ""
        named = class_labels(part)
        labels |= {above + path: label for path, label in named.items()}
        files |= {above + path: file for path, file in part.files.items()}
        sides |= {above + path: side for path in named} if valid is not None else {}
        others += [above + path for path in part.files if path not in named]
        others += [above + path for path in part.others if "/" in path or suffix(path)]
        seen.update(dict.fromkeys(empty_classes(part), 0))
        seen.update(named.values())
    notes = [f"classes: the folders in {trees[TRAIN].folder}"]
    if valid is not None:
        notes.append("split: as given by the folders train and valid")
        only = sorted(
            set(class_labels(trees[VALID]).values()) ^ set(class_labels(trees[TRAIN]).values())
        )
        if only:
            notes.append(f"classes on one side of the split only: {', '.join(only[:5])}")
    problems = {"unlabelled_files": sorted(others)}
    return Labelled(labels, files, sides, len(labels), seen, problems, notes)


def ids_of(paths: Sequence[str]) -> dict[str, str]:
    """Id -> path of each image, sorted by id."""
    return {image: path for image, path in sorted((i, p) for p, i in image_ids(paths).items())}

"""The test images: which there are, which the sample submission wants, which answers are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.answer_key import AnswerKey, key_from_folders, key_from_table
from data_prep.class_folders import without_wrappers
from data_prep.columns import id_place
from data_prep.image_names import stem
from data_prep.image_tree import ImageTree, find_images
from data_prep.labelled import Labelled
from data_prep.layout import Layout, SourceOptions
from data_prep.matching import match
from data_prep.sample_submission import SampleSubmission, understand_sample
from data_prep.source import SourceFiles
from data_prep.tables import Table, read_table


@dataclass(frozen=True)
class Wanted:
    """What is known of the test images besides their pixels."""

    sample: SampleSubmission | None
    answers: dict[str, str]
    """Id of a test image -> its class; for scoring alone."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_beside(path: Path, options: SourceOptions, known: Iterable[str]) -> Table:
    """A table beside that of the labels, in UTF-8 or the encoding that the user names.

    `known` are paths of images and names of classes, which tell other encodings.
    """
    names = [stem(name) for name in known]
    return read_table(path, options.encoding, trust_utf8=True, known=names)


def test_images(
    layout: Layout, source: SourceFiles, labelled: Labelled, options: SourceOptions
) -> ImageTree:
    """The test images: those of their folder, or unlabelled ones that the sample names."""
    if source.test is not None:
        return without_wrappers(find_images(source.test), layout.test_folders)
    free = {path: file for path, file in labelled.files.items() if path not in labelled.labels}
    if source.sample_submission is None or not free or labelled.sides:
        return ImageTree(source.train)
    table = read_beside(source.sample_submission, options, free)
    named = match(table.column(id_place(table, free, None)), free).found
    return ImageTree(source.train, {path: free[path] for path in sorted(named.values())})


def wanted(
    layout: Layout,
    source: SourceFiles,
    options: SourceOptions,
    test: ImageTree,
    images: Mapping[str, str],
    classes: Sequence[str],
) -> Wanted:
    """Sample submission and answer key, compared with the images and classes that there are.

    `images` is path -> id of each readable test image. Raises ValueError when the sample submission
    cannot be read or is of other images.
    """
    sample = None
    problems: dict[str, list[str]] = {}
    notes: list[str] = []
    if source.sample_submission is not None:
        table = read_beside(source.sample_submission, options, [*images, *classes])
        sample, problems = understand_sample(table, images, classes)
        if not table.rows and images:
            notes.append(f"{table.path.name} has no rows: every test image is predicted")
    try:
        key = answer_key(layout, source, options, test, images, classes)
    except ValueError as error:
        key = None
        notes.append(f"answer key not used: {error}")
    if key is not None:
        problems |= key.problems
        if images and not key.answers:
            notes.append("the answer key has no answer that can be scored: no test accuracy")
    return Wanted(sample, key.answers if key is not None else {}, problems, notes)


def answer_key(
    layout: Layout,
    source: SourceFiles,
    options: SourceOptions,
    test: ImageTree,
    images: Mapping[str, str],
    classes: Sequence[str],
) -> AnswerKey | None:
    """The key of a table, or of class folders in the test folder; None where there is neither."""
    if source.test_labels is None:
        return key_from_folders(test, images, classes)
    table = read_beside(source.test_labels, options, [*images, *classes])
    return key_from_table(table, images, classes, layout.label_column)

"""The sample submission: what is to be written, in whose words, for which images.

It rules: its names of columns, its classes, its ids and their order are those of the submission.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from data_prep.columns import INDEX, id_place, is_label_name, plain
from data_prep.files import from_json, to_json
from data_prep.matching import match
from data_prep.safe_names import composed
from data_prep.tables import Table


@dataclass(frozen=True)
class SampleSubmission:
    """What a submission must look like."""

    kind: Literal["label", "probabilities"]
    id_column: str
    label_column: str | None
    """Where the kind is `label`."""
    class_columns: tuple[str, ...]
    """Where the kind is `probabilities`: the columns of the classes, in the sample's order."""
    classes: tuple[str | None, ...]
    """The class that each of `class_columns` means; None: one that no labelled image has."""
    ids: tuple[str, ...]
    """The rows' ids, as the sample writes them but without blanks, in its order, each once."""
    images: tuple[str | None, ...]
    """The test image that each of `ids` means; None: it has none that can be read."""

    def to_json(self) -> str:
        """As sample_submission.json holds it."""
        return to_json(asdict(self))


def load_sample(path: Path) -> SampleSubmission:
    """Read what `to_json` wrote. Raises ValueError when it is no such file."""
    try:
        record = from_json(path.read_text(encoding="utf-8"))
        lists = ("class_columns", "classes", "ids", "images")
        return SampleSubmission(**{**record, **{name: tuple(record[name]) for name in lists}})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not as `prepare` writes it: {error}") from None


def understand_sample(
    table: Table, images: Mapping[str, str], classes: Sequence[str]
) -> tuple[SampleSubmission, dict[str, list[str]]]:
    """What the table asks for, and what of it does not fit, each under what is wrong with it.

    `images` is path below the test folder -> id of each readable test image, `classes` those of the
    labelled images. Raises ValueError when it has no column to fill, or is of other images.
    """
    place = id_place(table, images, None)
    written = [name for name in table.column(place) if name]
    ids = tuple(dict.fromkeys(written)) or tuple(images.values())
    found = match(ids, images).found if written else {i: path for path, i in images.items()}
    if written and images and not found:
        raise ValueError(
            f"{table.path}: none of its ids ({', '.join(ids[:2])}...) is a test image"
            f" ({', '.join(list(images)[:2])}...): both must belong together; else remove it"
        )
    others = [
        number
        for number, name in enumerate(table.header)
        if number != place and not (INDEX.match(plain(name)) and (number < place or not name))
    ]
    meant = {number: class_meant(table.header[number], classes) for number in others}
    label = label_column(table, others, meant)
    columns = [] if label is not None else others
    sample = SampleSubmission(
        kind="probabilities" if label is None else "label",
        id_column=table.header[place],
        label_column=None if label is None else table.header[label],
        class_columns=tuple(table.header[number] for number in columns),
        classes=tuple(meant[number] for number in columns),
        ids=ids,
        images=tuple(images[found[name]] if name in found else None for name in ids),
    )
    named = set(found.values())
    problems = {
        "sample_ids_without_image": sorted(name for name in ids if name not in found),
        "test_images_not_in_sample": sorted(i for path, i in images.items() if path not in named),
        "sample_ids_repeated": sorted(
            name for name, number in Counter(written).items() if number > 1
        ),
        "sample_rows_broken": list(table.broken),
        "sample_columns_of_no_class": sorted(
            table.header[number] for number in columns if meant[number] is None
        ),
        "classes_not_in_sample": sorted(set(classes) - set(sample.classes)) if columns else [],
        "sample_labels_of_no_class": unknown_labels(table, label, classes),
    }
    return sample, problems


def label_column(
    table: Table, others: Sequence[int], meant: Mapping[int, str | None]
) -> int | None:
    """The column to fill with labels; None where the columns are classes.

    Raises ValueError where there is neither.
    """
    if len(others) == 1:
        return others[0]
    if any(meant[number] is not None for number in others):
        return None
    for number in others:
        if is_label_name(table.header[number]):
            return number
    names = ", ".join(table.header[:5])
    raise ValueError(
        f"{table.path}: its columns ({names}) are neither an id and a label nor an id and classes"
    )


def class_meant(column: str, classes: Sequence[str]) -> str | None:
    """The class of a column: of the same name, or the only one that differs in capitals alone."""
    if composed(column) in classes:
        return composed(column)
    near = [name for name in classes if plain(name) == plain(column)]
    return near[0] if len(near) == 1 else None


def unknown_labels(table: Table, place: int | None, classes: Sequence[str]) -> list[str]:
    """Labels in the sample that are no class; none where all are fillers, such as 0."""
    labels = set(map(composed, table.column(place))) - {""} if place is not None else set()
    return sorted(labels - set(classes)) if labels & set(classes) else []

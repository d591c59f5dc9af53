"""What one task's data are called, and the size its images are packed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The file names of one task's data, where they are known, and its images' packed size.

    A file by one of these names is taken for what it is; all others are found by their content.
    """

    task: str
    """The task's name; `data/<task>` is its folder."""
    labels: str | None = None
    """Name of the table of labels; without one the classes may be folders, here as elsewhere."""
    label_column: str | None = None
    sample_submission: str | None = None
    test_labels: str | None = None
    """Name of an answer key for the test images, where there is one."""
    image_size: int | None = None
    """Side of the square that all images have, in pixels (others are resized to it)."""
    short_side: int | None = None
    """Instead of `image_size`: images keep their shape, the short side at most this, in pixels."""
    train_folders: tuple[str, ...] = ("train",)
    """Names that the folder of labelled images goes by; the first that exists counts."""
    test_folders: tuple[str, ...] = ("test",)
    write_source: Callable[[Path], None] | None = None
    """Writes the data into a folder, for a task that needs no download."""
    fit: Callable[[Layout, Sequence[tuple[int, int]]], Layout] | None = None
    """The layout for images of these sizes, (height, width) each, where it depends on them."""

    def __post_init__(self) -> None:
        if (self.image_size is None) == (self.short_side is None):
            raise ValueError(f"layout of {self.task}: give either image_size or short_side")

    def fitted(self, sizes: Sequence[tuple[int, int]]) -> Layout:
        """The layout for images of these sizes."""
        return self if self.fit is None else self.fit(self, sizes)


@dataclass(frozen=True)
class SourceOptions:
    """What the user says about the source in place of what would be found; `None`: find it."""

    labels: Path | None = None
    """The table of labels (`--labels`); a relative path begins here or in the source."""
    image_folder: Path | None = None
    """The folder of the labelled images (`--image-folder`); relative in the same way."""
    id_column: str | None = None
    """The column of the ids in the table of labels (`--id-column`)."""
    label_column: str | None = None
    """The column of the labels (`--label-column`)."""
    encoding: str | None = None
    """Python's name for the encoding of the table of labels (`--encoding`); of the other tables
    and of names in zip archives where they are not UTF-8."""


FOUND = SourceOptions()

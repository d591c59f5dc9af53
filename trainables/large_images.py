"""Images of any size as a source: one by one cut to size, by augmented views or centrally."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2 import functional

from trainables.backbones.preprocessing import Preprocessing, preprocessings
from trainables.config import DogBreedConfig
from trainables.data import (
    CENTRE,
    MIRRORED,
    NO_LABEL,
    Batch,
    TaskData,
    load_packed,
    ordered_batches,
    shuffled_batches,
)
from trainables.device import Machine, resolve
from trainables.features.views import (
    ViewSettings,
    draw_view,
    eval_view,
    render_view,
    view_number,
)


@dataclass(frozen=True)
class LargeImages:
    """Images of any size, one by one prepared for a network: training views, or the central crop.

    Where there are several ways to prepare them, an image is all of them, one after another.
    """

    pixels: Tensor
    """uint8: every image's H * W * 3 bytes one after another."""
    starts: NDArray[np.int64]
    """(N + 1,): where each begins."""
    shapes: NDArray[np.int32]
    """(N, 2): height and width."""
    ids: Sequence[str]
    labels: Tensor
    rows: Tensor
    """int64 (M,): the images of this source."""
    views: ViewSettings
    ways: tuple[Preprocessing, ...]
    """To prepare an image for the networks of the backbone."""
    num_views: int
    machine: Machine

    def __len__(self) -> int:
        return len(self.rows)

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """View (epoch - 1) mod num_views of each image, in a random order."""
        number = (epoch - 1) % self.num_views
        for members in shuffled_batches(len(self), batch_size, epoch, seed):
            rows = self.rows[members]
            yield self.batch([self.view(row, number) for row in rows.tolist()], rows)

    @property
    def looks(self) -> tuple[str, ...]:
        """The mirror image of the central crop: each look passes the whole network."""
        return (MIRRORED,)

    def eval_batches(self, batch_size: int, look: str = CENTRE) -> Iterator[Batch]:
        """The central crop of each image, that mirrored, or a view."""
        for rows in ordered_batches(self.rows, batch_size):
            yield self.batch([self.look(row, look) for row in rows.tolist()], rows)

    def look(self, row: int, look: str) -> list[Tensor]:
        """As `view`, of one of the looks."""
        number = view_number(look)
        return self.centre(row, look == MIRRORED) if number is None else self.view(row, number)

    def image(self, row: int) -> Tensor:
        """uint8 (3, H, W) of one image."""
        height, width = self.shapes[row].tolist()
        flat = self.pixels[self.starts[row] : self.starts[row + 1]]
        return flat.view(height, width, 3).permute(2, 0, 1)

    def view(self, row: int, number: int) -> list[Tensor]:
        """One view of one image, in 0 to 1: float32 (3, size, size) for each way to prepare it."""
        height, width = self.shapes[row].tolist()
        name = self.ids[row] if self.ids else ""  # of unlabelled images all are drawn alike
        drawn = draw_view(self.views, name, number, height, width)
        image = self.image(row)
        return [render_view(image, drawn, way.size, way.interpolation) for way in self.ways]

    def centre(self, row: int, mirrored: bool = False) -> list[Tensor]:
        """As `view`, of the central crop."""
        image = self.image(row)
        cut = [eval_view(image, w.size, w.eval_ratio, w.interpolation) for w in self.ways]
        return [each.flip(2) for each in cut] if mirrored else cut

    def batch(self, images: Sequence[Sequence[Tensor]], rows: Tensor) -> Batch:
        """Stack, move and normalise; what is smaller than the largest is put into its corner."""
        largest = max(way.size for way in self.ways)
        prepared = []
        for way, each in zip(self.ways, zip(*images, strict=True), strict=True):
            stacked = self.machine.to_device(torch.stack(each))
            stacked = functional.normalize(stacked, way.mean, way.std, inplace=True)
            beyond = largest - way.size
            prepared.append(pad(stacked, [0, beyond, 0, beyond]) if beyond else stacked)
        joined = prepared[0] if len(prepared) == 1 else torch.cat(prepared, 1)
        inputs = joined.contiguous(memory_format=self.machine.memory_format)
        return inputs, self.machine.to_device(self.labels.index_select(0, rows))


def byte_starts(shapes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each image of these shapes begins in the array of all pixels; one more for the end."""
    sizes = shapes.astype(np.int64).prod(axis=1) * 3
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])


def load_large_images(data_dir: Path, config: DogBreedConfig) -> TaskData:
    """The prepared images below `data_dir`."""
    packed = load_packed(data_dir, config)
    if packed.train_valid_shapes is None or packed.test_shapes is None:
        raise ValueError(f"{data_dir / 'packed'} holds images of one size; prepare it again")
    record = packed.record
    everything = source(packed.train_valid, packed.train_valid_shapes, packed.labels, config)
    everything = replace(everything, ids=record["ids"])
    valid_rows = packed.rows("valid").tolist()
    return TaskData(
        classes=tuple(record["classes"]),
        train=replace(everything, rows=packed.rows("train")),
        valid=replace(everything, rows=packed.rows("valid")),
        train_valid=everything,
        test=other_large_images(packed.test, packed.test_shapes, config),
        test_ids=tuple(record["test_ids"]),
        valid_ids=tuple(record["ids"][row] for row in valid_rows),
        valid_labels=tuple(record["labels"][row] for row in valid_rows),
        mean=tuple(itertools.chain(*(way.mean for way in everything.ways))),
        std=tuple(itertools.chain(*(way.std for way in everything.ways))),
    )


def other_large_images(
    pixels: Tensor, shapes: NDArray[np.int32], config: DogBreedConfig
) -> LargeImages:
    """A source to predict: every image's bytes one after another, and their (height, width)."""
    return source(pixels, shapes, torch.full((len(shapes),), NO_LABEL), config)


def source(
    pixels: Tensor, shapes: NDArray[np.int32], labels: Tensor, config: DogBreedConfig
) -> LargeImages:
    """All images in these arrays."""
    machine = resolve(config)
    return LargeImages(
        pixels=pixels,
        starts=byte_starts(shapes),
        shapes=shapes,
        ids=[],
        labels=labels,
        rows=torch.arange(len(shapes)),
        views=ViewSettings(config.min_area, config.jitter, config.view_seed),
        ways=preprocessings(config),
        num_views=config.num_views or config.num_epochs,
        machine=machine,
    )

"""Images of one size as a source: augmented in whole batches, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.augment import Augmentation, Normaliser, augment, draw, in_turns, shifted
from trainables.config import TrainConfig
from trainables.data import (
    CENTRE,
    MIRRORED,
    NO_LABEL,
    Batch,
    TaskData,
    generator,
    load_packed,
    ordered_batches,
    shuffled_batches,
)
from trainables.device import Machine, resolve

SHIFTS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}  # pixels down and right


@dataclass(frozen=True)
class SmallImages:
    """Images of one size, augmented in whole batches. A task's sources share `images`."""

    images: Tensor
    """uint8 (N, H, W, 3); on the device for training, or a memory map that is moved in batches."""
    labels: Tensor
    """int64 (N,), where the images are."""
    rows: Tensor
    """int64 (M,) on the CPU: the images of this source."""
    augmentation: Augmentation
    normalise: Normaliser
    machine: Machine

    def __len__(self) -> int:
        return len(self.rows)

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """Each image in a random order, with an offset and a flip of its own."""
        draws = draw(self.augmentation, len(self), generator(seed, epoch, "augmentation"))
        if self.augmentation.flip and self.augmentation.alternate:
            draws = in_turns(draws, epoch, generator(seed, 0, "mirror"))
        for members in shuffled_batches(len(self), batch_size, epoch, seed):
            images, labels = self.pick(self.rows[members])
            yield self.normalise(augment(images, self.augmentation, draws.of(members))), labels

    @property
    def looks(self) -> tuple[str, ...]:
        """What the augmentation shows of an image in training: its mirror image, small shifts."""
        mirrored = (MIRRORED,) if self.augmentation.flip else ()
        return (*mirrored, *(SHIFTS if self.augmentation.margin else ()))

    def eval_batches(self, batch_size: int, look: str = CENTRE) -> Iterator[Batch]:
        """Normalised; mirrored or shifted before."""
        for rows in ordered_batches(self.rows, batch_size):
            images, labels = self.pick(rows)
            yield self.normalise(looked_at(images, look)), labels

    def pick(self, rows: Tensor) -> Batch:
        """uint8 (len(rows), H, W, 3) and labels on the device."""
        rows = rows.to(self.images.device, non_blocking=True)
        images, labels = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return self.machine.to_device(images), self.machine.to_device(labels)


def looked_at(images: Tensor, look: str) -> Tensor:
    """uint8 (N, H, W, 3) by one of the looks."""
    if look == MIRRORED:
        return images.flip(2)
    return shifted(images, *SHIFTS[look]) if look in SHIFTS else images


def load_small_images(data_dir: Path, augmentation: Augmentation, config: TrainConfig) -> TaskData:
    """The prepared images below `data_dir`. On an accelerator the labelled ones live there."""
    packed = load_packed(data_dir, config)
    machine = resolve(config)
    record, labels = packed.record, packed.labels
    normalise = Normaliser(record["mean"], record["std"], machine.device)
    images, places = machine.to_device(packed.train_valid), machine.to_device(labels)

    def part(*splits: str) -> SmallImages:
        return SmallImages(images, places, packed.rows(*splits), augmentation, normalise, machine)

    valid_rows = packed.rows("valid").tolist()
    return TaskData(
        classes=tuple(record["classes"]),
        train=part("train"),
        valid=part("valid"),
        train_valid=part("train", "valid"),
        test=unlabelled(packed.test, normalise, machine),
        test_ids=tuple(record["test_ids"]),
        valid_ids=tuple(record["ids"][row] for row in valid_rows),
        valid_labels=tuple(record["labels"][row] for row in valid_rows),
        mean=tuple(record["mean"]),
        std=tuple(record["std"]),
    )


def other_images(pixels: NDArray[np.uint8], data: TaskData, config: TrainConfig) -> SmallImages:
    """Other decoded images, uint8 (N, H, W, 3), normalised as the task's own."""
    machine = resolve(config)
    normalise = Normaliser(data.mean, data.std, machine.device)
    return unlabelled(torch.from_numpy(pixels), normalise, machine)


def unlabelled(images: Tensor, normalise: Normaliser, machine: Machine) -> SmallImages:
    """A source to predict; its images move to the device batch by batch."""
    rows = torch.arange(len(images))
    labels = torch.full((len(images),), NO_LABEL)
    return SmallImages(images, labels, rows, Augmentation(), normalise, machine)

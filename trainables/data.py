"""`packed/`, mapped into memory: all trials on a node share it; and what a source of batches is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.files import from_json
from trainables.config import TrainConfig
from trainables.folds import plan_folds

Batch = tuple[Tensor, Tensor]
NO_LABEL = -1  # of test images
CENTRE, MIRRORED = "centre", "mirrored"  # looks at an image: as it is, and its mirror image


class Source(Protocol):
    """Where batches come from: images, or features of a frozen backbone.

    A batch is (inputs, labels) on the device: float32 (N, 3, H, W) images or (N, F) features, int64
    (N,). Everything random depends on (seed, epoch) alone.
    """

    def __len__(self) -> int: ...

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """All images in a random order, augmented. `epoch` counts from 1."""

    @property
    def looks(self) -> tuple[str, ...]:
        """Other looks at its images than `CENTRE`, over which predictions may be averaged."""

    def eval_batches(self, batch_size: int, look: str = CENTRE) -> Iterator[Batch]:
        """All images in their order, as they are or by another look."""


@dataclass(frozen=True)
class TaskData:
    """The data of one task."""

    classes: tuple[str, ...]
    train: Source
    valid: Source
    train_valid: Source
    test: Source
    test_ids: tuple[str, ...]
    valid_ids: tuple[str, ...]
    valid_labels: tuple[int, ...]
    mean: tuple[float, ...]
    """Of each channel, in 0 to 1: images are normalised with it."""
    std: tuple[float, ...]


class NoImages:
    """A source without images."""

    def __len__(self) -> int:
        return 0

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """None."""
        return iter(())

    @property
    def looks(self) -> tuple[str, ...]:
        """None."""
        return ()

    def eval_batches(self, batch_size: int, look: str = CENTRE) -> Iterator[Batch]:
        """None."""
        return iter(())


def without_images(
    classes: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> TaskData:
    """What a trained model needs to know of the data in order to predict other images."""
    none = NoImages()
    return TaskData(classes, none, none, none, none, (), (), (), mean, std)


@dataclass(frozen=True)
class Packed:
    """The decoded images of one task; arrays are memory maps."""

    record: dict[str, Any]
    """packed.json."""
    train_valid: Tensor
    """uint8: (N, H, W, 3), or one dimension with all pixels where `shapes` are given."""
    test: Tensor
    train_valid_shapes: NDArray[np.int32] | None
    test_shapes: NDArray[np.int32] | None

    @property
    def labels(self) -> Tensor:
        """int64 (N,), one for each train_valid image."""
        return torch.tensor(self.record["labels"], dtype=torch.int64)

    def rows(self, *splits: str) -> Tensor:
        """int64: which train_valid images belong to these splits."""
        wanted = [row for row, split in enumerate(self.record["splits"]) if split in splits]
        return torch.tensor(wanted, dtype=torch.int64)


def load_packed(data_dir: Path, config: TrainConfig | None = None) -> Packed:
    """Map the packed images of a prepared task folder, split into the folds of `config`, if any.

    Raises ValueError when there are none, they are damaged, or training or validation has no image.
    """
    folder = data_dir / "packed"
    try:
        record = from_json((folder / "packed.json").read_text(encoding="utf-8"))
        if config is not None and config.num_folds:
            record["splits"] = fold_splits(record, config)
        maps = {path.stem: np.load(path, mmap_mode="c") for path in folder.glob("*.npy")}
        for split in ("train", "valid"):
            if split not in record["splits"]:
                raise ValueError(f"it has no {split} images; prepare it with more images a class")
        return Packed(
            record,
            torch.from_numpy(maps["train_valid"]),
            torch.from_numpy(maps["test"]),
            maps.get("train_valid_shapes"),
            maps.get("test_shapes"),
        )
    except FileNotFoundError:
        reason = "no packed images; run `resnet-tune prepare` first"
    except KeyError as error:
        reason = f"incomplete ({error} is missing); delete {folder} and run `resnet-tune prepare`"
    except ValueError as error:
        reason = f"unusable: {error}"
    raise ValueError(f"{folder}: {reason}")


def fold_splits(record: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """`train` or `valid` for each labelled image, by the configuration's fold."""
    plan = plan_folds(record["labels"], record["digests"], config.num_folds)
    return ["valid" if fold == config.fold else "train" for fold in plan]


def generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A stream of random numbers of its own for each purpose in each epoch."""
    return torch.Generator().manual_seed(stream_seed(seed, epoch, purpose))


def stream_seed(seed: int, epoch: int, purpose: str) -> int:
    """63 bits that depend on all three."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def ordered_batches(rows: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The rows in batches; none where there are no rows (torch's split gives an empty one)."""
    for begin in range(0, len(rows), batch_size):
        yield rows[begin : begin + batch_size]


def shuffled_batches(count: int, batch_size: int, epoch: int, seed: int) -> list[Tensor]:
    """All numbers below `count` in random order, in batches.

    A last batch of one joins the one before it: BatchNorm has no statistics of a single image.
    """
    order = torch.randperm(count, generator=generator(seed, epoch, "order"))
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches

"""A frozen backbone's features: each image and view passes the network once, for all trials.

Epoch e trains on view (e - 1) mod num_views of every image. A view is the same whoever asks for it,
so its features are kept in a file that all trials, the retraining and the prediction map into
memory. `data/<task>/features/<key>/` holds `view_0003.npy` (augmented) or `eval.npy` and
`mirrored.npy` (central crop): float32 (N, F), a row for each image of `packed/`. The key is made of
everything that changes the numbers; `features.json` beside the files says what that was. A backbone
of several networks has a store for each, the same as where that network is alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from trainables.backbones.preprocessing import preprocessing
from trainables.backbones.specs import parts
from trainables.config import DogBreedConfig, TrainConfig
from trainables.data import CENTRE, Batch, Source, TaskData, shuffled_batches
from trainables.device import PRECISIONS, Machine, best_precision, find_device
from trainables.features.key import backbone_digest, file_digest
from trainables.features.store import EVAL, FeatureStore, Part, part_of
from trainables.features.views import view_looks
from trainables.large_images import LargeImages, load_large_images

Config = TypeVar("Config", bound=TrainConfig)


@dataclass(frozen=True)
class FeatureSource:
    """A source of features in place of images: the same order, the same views."""

    stores: tuple[FeatureStore, ...]
    """Of each network; their features stand one after another."""
    labels: torch.Tensor
    rows: torch.Tensor
    """int64 (M,): the images of this source."""
    num_views: int
    """0: the central crop in every epoch."""
    machine: Machine

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of an image, by each network."""
        return tuple(int(store.obtain(EVAL).shape[1]) for store in self.stores)

    @property
    def width(self) -> int:
        """Features of an image."""
        return sum(self.widths)

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """View (epoch - 1) mod num_views of each image, in a random order."""
        part = Part("view", (epoch - 1) % self.num_views) if self.num_views else EVAL
        features = self.tensors(part)
        for members in shuffled_batches(len(self), batch_size, epoch, seed):
            yield self.batch(features, self.rows[members])

    @property
    def looks(self) -> tuple[str, ...]:
        """The mirror image of the central crop, and the first views."""
        return view_looks(self.num_views)

    def eval_batches(self, batch_size: int, look: str = CENTRE) -> Iterator[Batch]:
        """The central crop of each image, that mirrored, or a view."""
        if not len(self):
            return
        features = self.tensors(part_of(look))
        for rows in self.rows.split(batch_size):
            yield self.batch(features, rows)

    def tensors(self, part: Part) -> list[torch.Tensor]:
        """A part by each network: on the CPU the shared file itself, else a copy on the device."""
        return [
            self.machine.to_device(torch.from_numpy(store.obtain(part))) for store in self.stores
        ]

    def batch(self, features: Sequence[torch.Tensor], rows: torch.Tensor) -> Batch:
        """Some rows of the features, with their labels."""
        chosen = [each.index_select(0, rows.to(each.device)) for each in features]
        inputs = chosen[0] if len(chosen) == 1 else torch.cat(chosen, 1)
        return inputs, self.machine.to_device(self.labels.index_select(0, rows))

    def scale(self) -> torch.Tensor:
        """float32 (F,): a factor for each network's features that makes all of them equally large.

        By the central crops of this source's images: afterwards the networks' features have the
        same mean squared norm, and all together that of an average network's, so that a learning
        rate means what it does for one.
        """
        rows = self.rows
        norms = [
            float(each.index_select(0, rows.to(each.device)).square().sum(1).mean())
            for each in self.tensors(EVAL)
        ]
        wanted = sum(norms) / len(norms) ** 2
        factors = [math.sqrt(wanted / norm) if norm else 1.0 for norm in norms]
        return torch.tensor(factors).repeat_interleave(torch.tensor(self.widths))


def settle_precision(config: Config) -> Config:
    """The configuration with `auto` replaced by what the backbone is fastest in here.

    By the hardware alone, without a measurement: all processes must come to the same answer, or
    they would not find each other's features. A CPU must have bfloat16 instructions of its own.
    """
    if config.precision != "auto":
        return config
    device = find_device(config.device)
    if device.type == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        chosen = torch.bfloat16 if fast else torch.float32
    else:
        chosen = best_precision(device)
    name = next(name for name, precision in PRECISIONS.items() if precision == chosen)
    return dataclasses.replace(config, precision=name)  # type: ignore[arg-type]


def load_features(data_dir: Path, config: DogBreedConfig) -> TaskData:
    """As `load_large_images`, with the frozen backbone's features for images."""
    config = settle_precision(config)
    data = load_large_images(data_dir, config)
    stores = {
        array: tuple(
            make_store(data_dir, array, images_of(getattr(data, array)), part)
            for part in parts(config)
        )
        for array in ("train_valid", "test")
    }

    def source(images: LargeImages, array: str) -> FeatureSource:
        kept = stores[array]
        return FeatureSource(kept, images.labels, images.rows, images.num_views, images.machine)

    return dataclasses.replace(
        data,
        train=source(images_of(data.train), "train_valid"),
        valid=source(images_of(data.valid), "train_valid"),
        train_valid=source(images_of(data.train_valid), "train_valid"),
        test=source(images_of(data.test), "test"),
    )


def images_of(source: Source) -> LargeImages:
    """The source, which is known to be one of images."""
    assert isinstance(source, LargeImages)
    return source


def make_store(
    data_dir: Path, array: str, images: LargeImages, config: DogBreedConfig
) -> FeatureStore:
    """One network's store of one of the arrays of `packed/`.

    Raises ValueError when it cannot be written, or the weights cannot be had.
    """
    root = data_dir / "features"
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"{root}: features cannot be kept there ({error.strerror})") from None
    content = {
        "pixels": file_digest(root, data_dir / "packed" / f"{array}.npy"),
        "shapes": hashlib.sha256(images.shapes.tobytes()).hexdigest(),
        "ids": hashlib.sha256(json.dumps(list(images.ids)).encode()).hexdigest(),
    }
    alone = dataclasses.replace(images, ways=(preprocessing(config),))
    return FeatureStore(root, alone, content, backbone_digest(root, config), config)

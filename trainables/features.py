"""A frozen backbone's features: each image and view passes the network once, for all trials.

Epoch e trains on view (e - 1) mod num_views of every image. A view is the same whoever asks for it,
so its features are kept in a file that all trials, the retraining and the prediction map into
memory. `data/<task>/features/<key>/` holds `view_0003.npy` (augmented) or `eval.npy` and
`mirrored.npy` (central crop): float32 (N, F), a row for each image of `packed/`. The key is made of
everything that changes the numbers; `features.json` beside the files says what that was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
import torchvision
from filelock import FileLock, Timeout

from trainables.config import DogBreedConfig, TrainConfig
from trainables.data import Batch, Source, TaskData, shuffled_batches
from trainables.device import PRECISIONS, Machine, best_precision, find_device
from trainables.extractor import Extractor
from trainables.feature_files import Features, fill, open_features
from trainables.feature_key import backbone_digest, file_digest, write_whole
from trainables.large_images import IMAGENET_MEAN, IMAGENET_STD, LargeImages, load_large_images
from trainables.views import EVAL_RATIO, MAX_ASPECT, MIN_ASPECT, eval_view

Config = TypeVar("Config", bound=TrainConfig)

VERSION = 2  # of what the code below and views.py compute
POLL_SECONDS = 0.2  # between two looks for a file that another process computes


@dataclass(frozen=True)
class Part:
    """What is computed in one go: one view, or one evaluation transform, of all images."""

    kind: Literal["view", "eval", "mirrored"]
    number: int = 0
    """Of the view."""

    @property
    def name(self) -> str:
        """Of its file, without suffix."""
        return f"view_{self.number:04d}" if self.kind == "view" else self.kind


EVAL, MIRRORED = Part("eval"), Part("mirrored")


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """The features of all images of one packed array."""

    root: Path
    """data/<task>/features."""
    images: LargeImages
    content: dict[str, str]
    """Digests of the pixels, the shapes and the ids of the images."""
    backbone: str
    """Digest of the network's weights."""
    config: DogBreedConfig
    """With a precision that is not `auto`."""

    def ingredients(self, part: Part) -> dict[str, object]:
        """Everything that changes the numbers of a part, but the view's number."""
        views = self.images.views
        drawn = {
            "ids": self.content["ids"],
            "view_seed": views.seed,
            "min_area": views.min_area,
            "aspect": (MIN_ASPECT, MAX_ASPECT),
            "jitter": views.jitter,
        }
        return {
            "version": VERSION,
            "torchvision": ".".join(torchvision.__version__.split(".")[:2]),
            "pixels": self.content["pixels"],
            "shapes": self.content["shapes"],
            "image_size": views.size,
            "transform": drawn if part.kind == "view" else {"resize": EVAL_RATIO},
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "backbone": self.config.backbone,
            "weights": self.backbone,
            "precision": self.config.precision,
        }

    def folder(self, part: Part) -> Path:
        """Where the part's file is."""
        text = json.dumps(self.ingredients(part), sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:32]

    def path(self, part: Part) -> Path:
        """The part's file."""
        return self.folder(part) / f"{part.name}.npy"

    def open(self, part: Part) -> Features | None:
        """The part, mapped into memory; None when it is not there or damaged."""
        return open_features(self.path(part), len(self.images))

    def lock(self) -> FileLock:
        """Held by whoever computes parts of this store."""
        folder = self.folder(Part("view"))
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock")

    def obtain(self, part: Part) -> Features:
        """The part; computed here when it is missing and no other process is at it.

        While another process computes (a search's driver, usually), this waits for the file; when
        that process dies its lock is freed, and this one goes on where it stopped.
        """
        while True:
            features = self.open(part)
            if features is not None:
                return features
            try:
                with self.lock().acquire(timeout=POLL_SECONDS, poll_interval=POLL_SECONDS / 4):
                    if self.open(part) is None:
                        for _ in self.fill(part, self.local()):
                            pass
            except Timeout:
                continue

    def fill(self, part: Part, compute: Compute) -> Iterator[int]:
        """Compute the part and write it, with the lock held; yields numbers of images done."""
        folder = self.folder(part)
        folder.mkdir(parents=True, exist_ok=True)
        described = json.dumps(self.ingredients(part), indent=2) + "\n"
        write_whole(folder / "features.json", described)
        yield from fill(self.path(part), len(self.images), lambda rows: compute(self, part, rows))

    def local(self) -> Compute:
        """Computing in this process; the network is loaded once, when it is first needed."""
        extractors: list[Extractor] = []

        def compute(store: FeatureStore, part: Part, pieces: Sequence[range]) -> Iterator[Features]:
            if not extractors:
                extractors.append(store.extractor())
            return extractors[0].features(store.images, lambda row: store.render(part, row), pieces)

        return compute

    def extractor(self) -> Extractor:
        """The network that makes the features."""
        return Extractor(self.config, self.images.machine)

    def render(self, part: Part, row: int) -> torch.Tensor:
        """float32 (3, size, size): one image under the part's transform."""
        if part.kind == "view":
            return self.images.view(row, part.number)
        image = eval_view(self.images.image(row), self.images.views.size)
        return image.flip(2) if part.kind == "mirrored" else image


Compute = Callable[[FeatureStore, Part, Sequence[range]], Iterator[Features]]
"""Yields the features of ranges of a store's images, under a part's transform."""


@dataclass(frozen=True)
class FeatureSource:
    """A source of features in place of images: the same order, the same views."""

    store: FeatureStore
    labels: torch.Tensor
    rows: torch.Tensor
    """int64 (M,): the images of this source."""
    num_views: int
    machine: Machine

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Features of an image."""
        return int(self.store.obtain(EVAL).shape[1])

    def train_batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """View (epoch - 1) mod num_views of each image, in a random order."""
        features = self.tensor(Part("view", (epoch - 1) % self.num_views))
        for members in shuffled_batches(len(self), batch_size, epoch, seed):
            yield self.batch(features, self.rows[members])

    def eval_batches(self, batch_size: int, mirrored: bool = False) -> Iterator[Batch]:
        """The central crop of each image."""
        if not len(self):
            return
        features = self.tensor(MIRRORED if mirrored else EVAL)
        for rows in self.rows.split(batch_size):
            yield self.batch(features, rows)

    def tensor(self, part: Part) -> torch.Tensor:
        """A part as a tensor: on the CPU the shared file itself, else a copy on the device."""
        return self.machine.to_device(torch.from_numpy(self.store.obtain(part)))

    def batch(self, features: torch.Tensor, rows: torch.Tensor) -> Batch:
        """Some rows of the features, with their labels."""
        chosen = features.index_select(0, rows.to(features.device))
        return chosen, self.machine.to_device(self.labels.index_select(0, rows))


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
        array: make_store(data_dir, array, images_of(getattr(data, array)), config)
        for array in ("train_valid", "test")
    }

    def source(images: LargeImages, array: str) -> FeatureSource:
        store = stores[array]
        return FeatureSource(store, images.labels, images.rows, images.num_views, images.machine)

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
    """The store of one of the arrays of `packed/`. Raises ValueError when it cannot be written."""
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
    return FeatureStore(root, images, content, backbone_digest(root, config), config)


def feature_work(data_dir: Path, config: DogBreedConfig) -> list[tuple[FeatureStore, Part]]:
    """What a study, its retraining and its prediction need, in the order in which it is needed.

    Trials can start when the first two are there. Nothing when the backbone is not frozen.
    """
    if config.unfreeze:
        return []
    data = load_features(data_dir, config)
    assert isinstance(data.train_valid, FeatureSource)
    assert isinstance(data.test, FeatureSource)
    numbers = range(min(data.train_valid.num_views, config.num_epochs))
    labelled = [EVAL, *(Part("view", number) for number in numbers)]
    work = [(data.train_valid.store, part) for part in labelled]
    return work + ([(data.test.store, EVAL)] if len(data.test) else [])

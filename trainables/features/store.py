"""The store of a frozen backbone's features: which parts there are, opened or filled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
import torchvision
from filelock import FileLock, Timeout

from trainables.backbones.specs import TIMM, name_and_size
from trainables.config import DogBreedConfig
from trainables.features.extractor import Extractor
from trainables.features.files import Features, fill, open_features
from trainables.features.views import MAX_ASPECT, MIN_ASPECT, view_number
from trainables.files import replacing
from trainables.large_images import LargeImages

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


def part_of(look: str) -> Part:
    """What is computed for a look at the images."""
    number = view_number(look)
    if number is not None:
        return Part("view", number)
    return MIRRORED if look == MIRRORED.name else EVAL


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """The features of all images of one packed array, by one network.

    With a configuration of which some stages are trained: the activations before these, in a row.
    """

    root: Path
    """data/<task>/features."""
    images: LargeImages
    """With one way to prepare them."""
    content: dict[str, str]
    """Digests of the pixels, the shapes and the ids of the images."""
    backbone: str
    """Digest of the network's weights."""
    config: DogBreedConfig
    """Of one network (`specs.parts`), with a precision that is not `auto`."""

    def ingredients(self, part: Part) -> dict[str, object]:
        """Everything that changes the numbers of a part, but the view's number."""
        views, way = self.images.views, self.images.ways[0]
        name = name_and_size(self.config.backbone)[0]
        drawn = {
            "ids": self.content["ids"],
            "view_seed": views.seed,
            "min_area": views.min_area,
            "aspect": (MIN_ASPECT, MAX_ASPECT),
            "jitter": views.jitter,
        }
        found: dict[str, object] = {
            "version": VERSION,
            "torchvision": ".".join(torchvision.__version__.split(".")[:2]),
            "pixels": self.content["pixels"],
            "shapes": self.content["shapes"],
            "image_size": way.size,
            "transform": drawn if part.kind == "view" else {"resize": way.eval_ratio},
            "mean": way.mean,
            "std": way.std,
            "backbone": name,
            "weights": self.backbone,
            "precision": self.config.precision,
        }
        if way.interpolation != "bilinear":
            found["interpolation"] = way.interpolation
        if name.startswith(TIMM):
            found["timm"] = ".".join(version("timm").split(".")[:2])
            if self.config.precision != "float32":
                found["folded"] = True  # since 0.2.0
        if self.config.unfreeze:
            found["trained_stages"] = self.config.unfreeze
        return found

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
        with replacing(folder / "features.json") as aside:
            aside.write_text(described, encoding="utf-8")
        yield from fill(self.path(part), len(self.images), lambda rows: compute(self, part, rows))

    def local(self) -> Compute:
        """Computing in this process; each network is loaded once, when it is first needed."""
        extractors: dict[Network, Extractor] = {}

        def compute(store: FeatureStore, part: Part, pieces: Sequence[range]) -> Iterator[Features]:
            extractor = extractors.get(store.network)
            if extractor is None:
                extractor = extractors[store.network] = store.extractor()
            return extractor.features(store.images, lambda row: store.render(part, row), pieces)

        return compute

    @property
    def network(self) -> Network:
        """What tells its network from others: weights' digest, image size, stages left out."""
        return self.backbone, self.images.ways[0].size, self.config.unfreeze

    @property
    def described(self) -> str:
        """Its network, for people."""
        name, unfreeze = self.config.backbone, self.config.unfreeze
        return f"{name} up to its last {unfreeze} stages" if unfreeze else name

    def extractor(self) -> Extractor:
        """The network that makes the features."""
        return Extractor(self.config, self.images.machine, self.images.ways[0].size)

    def render(self, part: Part, row: int) -> list[torch.Tensor]:
        """float32 (3, size, size), alone in a list: one image under the part's transform."""
        if part.kind == "view":
            return self.images.view(row, part.number)
        return self.images.centre(row, part.kind == "mirrored")


Network = tuple[str, int, int]
Compute = Callable[[FeatureStore, Part, Sequence[range]], Iterator[Features]]
"""Yields the features of ranges of a store's images, under a part's transform."""

"""Task `cifar10`: torchvision's ResNet-18 with a stem for 32x32 images, from scratch.

The notes' numbers are `CONFIG`: SGD with lr 0.1, momentum 0.9, weight decay 5e-4, batch 256, 20
epochs; images padded by 4, cropped to 32x32 at random, flipped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18

from trainables.augment import Augmentation
from trainables.config import CifarConfig
from trainables.data import Source, TaskData
from trainables.reporting import knobs_of, report_epochs
from trainables.small_images import load_small_images, other_images
from trainables.state import TrainState, new_state

CONFIG = CifarConfig()
WHITENED = 500  # images: 450,000 patches of CIFAR-10 determine 27 x 27 numbers
WHITEN_NOISE = 0.01  # added to the variances, so that the finest patterns are not blown up
# What moves a short run of this network (tests/benchmarks/recipe.py measures it, and lists what was
# tried): a one-cycle schedule (Smith & Topin 2017) with Nesterov's momentum, smoothed labels, no
# decay of norms and biases (He et al. 2018, "Bag of tricks", 1812.01187); whitening filters at the
# start, a larger learning rate of biases, flips in turns (Jordan 2024, 2404.00498), crops of
# reflected images; and the mean over the mirror image in the final prediction.
RECIPE = dataclasses.replace(
    CONFIG,
    batch_size=128,
    bias_lr=8.0,
    whiten=True,
    crop="reflect",
    alternate_flip=True,
    schedule="one_cycle",
    nesterov=True,
    label_smoothing=0.1,
    exclude_norm_decay=True,
    flip_average=True,
)


def load_data(data_dir: Path, config: CifarConfig) -> TaskData:
    """The prepared images of `data_dir`. Raises ValueError when they cannot be used."""
    augmentation = Augmentation(config.crop, config.margin, config.flip, config.alternate_flip)
    return load_small_images(data_dir, augmentation, config)


def images_data(
    pixels: NDArray[np.uint8], shapes: NDArray[np.int32] | None, data: TaskData, config: CifarConfig
) -> Source:
    """Other decoded images, uint8 (N, 32, 32, 3), to predict; `shapes` is None."""
    assert shapes is None
    return other_images(pixels, data, config)


def build_model(config: CifarConfig, num_classes: int) -> ResNet:
    """ResNet-18 whose first layer keeps the 32x32 pixels: 3x3 with stride 1, no max-pooling."""
    network = resnet18(num_classes=num_classes)
    stem = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
    network.conv1 = stem
    network.maxpool = nn.Identity()
    return network


def plain_network(model: ResNet, config: CifarConfig) -> tuple[ResNet, list[str]]:
    """The network as it is, and the Python that makes one of its kind with torchvision alone."""
    return model, [
        f"model = torchvision.models.resnet18(num_classes={model.fc.out_features}).eval()",
        "model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False),"
        " torch.nn.Identity()",
    ]


def start(config: CifarConfig, data: TaskData) -> TrainState:
    """A training at its beginning."""

    def build() -> ResNet:
        network = build_model(config, len(data.classes))
        if config.whiten and len(data.train):
            whiten(network.conv1, first_images(data.train))
        return network

    return new_state(build, config)


def first_images(source: Source) -> Tensor:
    """float32 (N, 3, H, W) on the CPU: up to `WHITENED` images, not augmented."""
    return next(source.eval_batches(WHITENED))[0].float().cpu()


def whiten(stem: nn.Conv2d, images: Tensor) -> None:
    """Begin with filters whose outputs on patches of `images` are uncorrelated, of one size.

    The eigenvectors of the covariance of all 3x3 patches, each over the root of its eigenvalue, and
    their negatives (2404.00498, section 3.2); half as large, so that the 54 outputs are about as
    large as the other filters'. Unlike there they are trained from then on.
    """
    patches = images.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27)
    values, vectors = torch.linalg.eigh((patches.T.double() @ patches.double()) / len(patches))
    filters = (vectors / (values.clamp_min(0) + WHITEN_NOISE).sqrt()).T.reshape(27, 3, 3, 3) / 2
    with torch.no_grad():
        stem.weight[:54] = torch.cat([filters, -filters])


def trainable(
    config: Mapping[str, Any],
    *,
    data_dir: str,
    checkpoint_epochs: Sequence[int] = (),
    checkpoint_seconds: float = 60.0,
) -> None:
    """One trial for Ray Tune; `config` holds knobs and the search's own `_names`."""
    knobs = dataclasses.replace(CONFIG, **knobs_of(config))
    data = load_data(Path(data_dir), knobs)
    report_epochs(
        start(knobs, data),
        data.train,
        data.valid,
        knobs,
        resume_from=config.get("_resume_from"),
        checkpoint_epochs=checkpoint_epochs,
        checkpoint_seconds=checkpoint_seconds,
        facts={"path": "images"},
        metric=config.get("_metric", "valid_acc"),
    )

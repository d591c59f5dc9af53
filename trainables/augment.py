"""Augmentation of whole batches of small images, on tensors, on the device that trains.

The distributions are those of torchvision's transforms: Pad(margin), RandomCrop(size),
RandomHorizontalFlip(0.5), or Resize(size + 2 * margin) in place of Pad; then ToTensor, Normalize.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

CHANNELS = 3


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image that is trained on."""

    crop: Literal["pad", "reflect", "resize"] = "pad"
    """How the image grows before it is cropped to its old size: by black pixels, by its own
    reflected at the border, or by enlarging it."""
    margin: int = 0
    """Pixels by which it grows on each side; 0: no crop."""
    flip: bool = False
    """Mirror it with probability 0.5."""
    alternate: bool = False
    """Where it is mirrored: at random in the first epoch, then in every second one."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of N images, on the CPU (so they are the same for every device)."""

    offsets: Tensor
    """int64 (N, 2): top and left of the crop, 0 to 2 * margin."""
    mirrored: Tensor
    """bool (N,)."""

    def of(self, rows: Tensor) -> Draws:
        """Those of some of the images."""
        return Draws(self.offsets[rows], self.mirrored[rows])


def draw(augmentation: Augmentation, count: int, generator: torch.Generator) -> Draws:
    """Draw for `count` images."""
    offsets = torch.randint(0, 2 * augmentation.margin + 1, (count, 2), generator=generator)
    chance = torch.rand(count, generator=generator)
    return Draws(offsets, chance < (0.5 if augmentation.flip else 0.0))


def in_turns(draws: Draws, epoch: int, generator: torch.Generator) -> Draws:
    """Mirror in every second epoch what `generator` mirrors in the first (epoch 1).

    Two epochs so show each image both ways, which chance does for half of them (Jordan 2024,
    2404.00498, "alternating flip").
    """
    first = torch.rand(len(draws.mirrored), generator=generator) < 0.5
    return Draws(draws.offsets, first if epoch % 2 else ~first)


def augment(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Crop and mirror each image; uint8 (N, H, W, 3), contiguous, may be changed in place."""
    if augmentation.margin:
        grown = grow(images, augmentation)
        images = crop(grown, draws.offsets, images.shape[1], images.shape[2])
    mirrored = draws.mirrored.nonzero().squeeze(1).to(images.device, non_blocking=True)
    if len(mirrored):
        images[mirrored] = images[mirrored].flip(2)
    return images


def grow(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Add `margin` pixels on each side: black, reflected, or by enlarging the image (bilinear)."""
    count, height, width, _ = images.shape
    margin = augmentation.margin
    size = [height + 2 * margin, width + 2 * margin]
    if augmentation.crop == "resize":
        resized: Tensor = functional.resize(images.permute(0, 3, 1, 2), size, antialias=True)
        return resized.permute(0, 2, 3, 1).contiguous()
    if augmentation.crop == "reflect":
        rows, columns = (reflected(side, margin, images.device) for side in (height, width))
        return images[:, rows][:, :, columns].contiguous()
    grown = images.new_zeros(count, *size, CHANNELS)
    grown[:, margin : margin + height, margin : margin + width] = images
    return grown


def reflected(size: int, margin: int, device: torch.device) -> Tensor:
    """int64 (size + 2 * margin,): which row stands where, the border's own not repeated.

    As numpy's pad mode "reflect", also for margins of more than one image.
    """
    period = max(2 * (size - 1), 1)
    places = torch.arange(-margin, size + margin, device=device) % period
    return torch.minimum(places, period - places)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images (N, H, W, 3) moved by at most a pixel; what comes in is reflected at the border."""
    _, height, width, _ = images.shape
    rows = reflected(height, 1, images.device)[1 - down : 1 - down + height]
    columns = reflected(width, 1, images.device)[1 - right : 1 - right + width]
    return images[:, rows][:, :, columns]


def crop(images: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """Cut height x width out of each image at its own offset.

    A crop's rows are runs of bytes, copied as such: ten times as fast as indexing pixels.
    """
    count, whole_height, whole_width, _ = images.shape
    offsets = offsets.to(images.device, non_blocking=True)
    first = torch.arange(count, device=images.device)[:, None] * whole_height + offsets[:, :1]
    rows = first + torch.arange(height, device=images.device)
    starts = (rows * whole_width + offsets[:, 1:]) * CHANNELS
    runs = images.view(-1).unfold(0, width * CHANNELS, 1)
    return runs.index_select(0, starts.view(-1)).view(count, height, width, CHANNELS)


class Normaliser:
    """(image / 255 - mean) / std of each channel, as one multiplication and addition.

    `scale` and `shift` are float32 (3,). The result is float32 (N, 3, H, W), channels last.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        """Statistics in 0 to 1. A channel that never varies is only centred."""
        deviation = torch.tensor(std, dtype=torch.float64)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        self.scale = (1 / (255 * deviation)).float().to(device)
        self.shift = (-torch.tensor(mean, dtype=torch.float64) / deviation).float().to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise uint8 (N, H, W, 3)."""
        count, height, width, _ = images.shape
        # Whole rows of pixels at once: with three numbers a pixel, vector units would idle.
        scale, shift = self.scale.repeat(width), self.shift.repeat(width)
        rows = images.reshape(count * height, width * CHANNELS).to(torch.float32)
        torch.addcmul(shift, rows, scale, out=rows)
        return rows.view(count, height, width, CHANNELS).permute(0, 3, 1, 2)

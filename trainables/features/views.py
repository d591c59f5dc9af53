"""Augmented views of large images, each a pure function of (seed, image id, view number).

So a view is the same on any machine, in any order, with any batch size and number of workers. The
distribution is that of the notes' transforms: RandomResizedCrop(size, (min_area, 1), (3/4, 4/3)),
RandomHorizontalFlip(0.5), ColorJitter(jitter, jitter, jitter). Crops are made of uint8 pixels;
colours change in float32, which takes a third of the time and does not round in between.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from trainables.data import MIRRORED

MIN_ASPECT, MAX_ASPECT = 3 / 4, 4 / 3
ATTEMPTS = 10  # to find a crop that lies inside the image, as torchvision does
EVAL_RATIO = 256 / 224  # short side over crop in the notes' evaluation transform
THIN = 8  # sides in this ratio: what is longer is cut before it is enlarged
LOOKED_AT = 4  # views over which predictions may be averaged, at most
VIEW = "view_"  # begins the name of such a look


@dataclass(frozen=True)
class ViewSettings:
    """What the views of a study have in common."""

    min_area: float
    """Smallest share of the image's area that a crop takes."""
    jitter: float
    """Largest relative change of brightness, contrast and saturation."""
    seed: int


@dataclass(frozen=True)
class View:
    """One view's random numbers."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    brightness: float
    contrast: float
    saturation: float
    order: tuple[int, ...]
    """Order of the three colour changes."""


def view_looks(num_views: int) -> tuple[str, ...]:
    """The looks at an image of which there are so many views: mirrored, then the first views."""
    return (MIRRORED, *(f"{VIEW}{number}" for number in range(min(num_views, LOOKED_AT))))


def view_number(look: str) -> int | None:
    """The view that a look is, if it is one."""
    return int(look.removeprefix(VIEW)) if look.startswith(VIEW) else None


def draw_view(settings: ViewSettings, image_id: str, number: int, height: int, width: int) -> View:
    """The view's numbers for an image of this size, from a generator of its own."""
    name = f"{settings.seed}/{image_id}/{number}"
    generator = random.Random(hashlib.sha256(name.encode()).digest())
    top, left, crop_height, crop_width = draw_crop(generator, settings.min_area, height, width)
    mirrored = generator.random() < 0.5
    low, high = 1 - settings.jitter, 1 + settings.jitter
    brightness, contrast, saturation = (low + (high - low) * generator.random() for _ in range(3))
    order = sorted(range(3), key=lambda _: generator.random())
    return View(
        top, left, crop_height, crop_width, mirrored, brightness, contrast, saturation, tuple(order)
    )


def draw_crop(
    generator: random.Random, min_area: float, height: int, width: int
) -> tuple[int, int, int, int]:
    """Top, left, height and width as torchvision's RandomResizedCrop draws them."""
    log_low, log_high = math.log(MIN_ASPECT), math.log(MAX_ASPECT)
    for _ in range(ATTEMPTS):
        area = height * width * (min_area + (1 - min_area) * generator.random())
        aspect = math.exp(log_low + (log_high - log_low) * generator.random())
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(generator.random() * (height - crop_height + 1))
            left = int(generator.random() * (width - crop_width + 1))
            return top, left, crop_height, crop_width
    return central_crop(height, width)


def central_crop(height: int, width: int) -> tuple[int, int, int, int]:
    """The largest central crop of an allowed shape, where no random one was found."""
    if width / height < MIN_ASPECT:
        crop_width, crop_height = width, round(width / MIN_ASPECT)
    elif width / height > MAX_ASPECT:
        crop_width, crop_height = round(height * MAX_ASPECT), height
    else:
        crop_width, crop_height = width, height
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def render_view(image: Tensor, view: View, size: int, interpolation: str = "bilinear") -> Tensor:
    """Carry a view out: uint8 (3, H, W) -> float32 (3, size, size) in 0 to 1."""
    image = functional.resized_crop(
        image,
        view.top,
        view.left,
        view.height,
        view.width,
        [size, size],
        InterpolationMode(interpolation),
        antialias=True,
    )
    image = functional.to_dtype(image, torch.float32, scale=True)
    if view.mirrored:
        image = functional.horizontal_flip(image)
    changes: tuple[tuple[Callable[[Tensor, float], Tensor], float], ...] = (
        (functional.adjust_brightness, view.brightness),
        (functional.adjust_contrast, view.contrast),
        (functional.adjust_saturation, view.saturation),
    )
    for index in view.order:
        change, factor = changes[index]
        if factor != 1:
            image = change(image, factor)
    return image


def eval_view(
    image: Tensor, size: int, ratio: float = EVAL_RATIO, interpolation: str = "bilinear"
) -> Tensor:
    """The evaluation transform: resize the short side to `ratio` x `size`, cut the centre out.

    uint8 (3, H, W) -> float32 (3, size, size) in 0 to 1.
    """
    image = cut_thin(image)
    short = round(size * ratio)
    if min(image.shape[1:]) != short:
        image = functional.resize(image, [short], InterpolationMode(interpolation), antialias=True)
    cut = functional.center_crop(image, [size, size])
    scaled: Tensor = functional.to_dtype(cut, torch.float32, scale=True)
    return scaled


def cut_thin(image: Tensor) -> Tensor:
    """The middle of a thin image (3, H, W), more than is seen of it; others as they are.

    Enlarging its short side to 256 pixels would make 1 x 20,000 pixels 256 x 5,120,000.
    """
    height, width = image.shape[1:]
    longest = THIN * min(height, width)
    cut = [side - longest - (side - longest) % 2 for side in (height, width)]  # the centre stays
    top, left = (max(0, pixels) // 2 for pixels in cut)
    return image[:, top : height - top, left : width - left]

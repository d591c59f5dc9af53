"""The bytes of a stranger's image file -> its pixels, decoded with care.

One decoding for all that looks at images: 8-bit RGB, upright as its EXIF orientation says, of an
animation the first frame, what is transparent shown on white, and deep greys scaled, not clipped.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from data_prep.files import read_regular

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # no EPS: Pillow would start Ghostscript
MAX_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs, 256 MiB of RGB
MAX_SIDE = 65_535  # pixels: JPEG's own limit, so no camera's image is longer
MAX_BYTES = 6 * MAX_PIXELS  # of a file: the most that such an image of 16-bit RGB has
PART = 1 << 20  # pixels of a deep grey that are in memory as floats at a time
RULES = 2  # version of the decoding; 1 was Pillow's `convert("RGB")` alone


def read_file(path: str | os.PathLike[str]) -> bytes:
    """An image file's bytes. Raises OSError; ValueError for no regular file, or too large a one."""
    return read_regular(path, MAX_BYTES)


def decode(data: bytes) -> Image.Image:
    """The image in RGB. Raises ValueError, whatever is wrong with the bytes."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            check_size(image.width, image.height)
            turned = turn_upright(image)
            return to_rgb(image, turned)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost any class on damaged bytes
        problem = str(error) or type(error).__name__
        if "cannot identify image file" in problem:
            problem = "not an image"
    raise ValueError(problem)


def rules(image: Image.Image) -> int:
    """The version of the decoding that a decoded image owes its pixels to: the first that did."""
    return int(image.info.get("rules", 1))


def check_size(width: int, height: int) -> None:
    """Raise ValueError for an image that would take too much memory, here or when it is resized."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are too many")
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"{width}x{height} pixels: a side is longer than {MAX_SIDE:,}")


def turn_upright(image: Image.Image) -> bool:
    """Turn the image in place as its EXIF orientation says; whether it had one.

    Pillow does so for TIFF alone. Damaged metadata do not cost the picture.
    """
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation not in range(2, 9):
            return False
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # as with the pixels, almost any class; they are turned first
        return False
    return True


def to_rgb(image: Image.Image, turned: bool) -> Image.Image:
    """A loaded image in RGB without metadata, with the version of the rules that it took."""
    if image.mode == "F" or image.mode.startswith("I"):
        rgb, changed = Image.fromarray(to_bytes(np.asarray(image))).convert("RGB"), True
    elif image.has_transparency_data:
        rgb, changed = on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    else:
        rgb, changed = image.convert("RGB"), False
    rgb.info = {"rules": RULES if changed or turned else 1}
    return rgb


def on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """An RGBA image as a browser shows it on an empty page, and whether any of the page is seen.

    `convert("RGB")` would show the colours that nobody saw where the image is transparent.
    """
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB"), False
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=alpha)
    return page, True


def to_bytes(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of 16 or 32 bits in 8 bits: white stays white, where Pillow clips at 255.

    16 bits are divided by 257. 32 bits (integers, floats) have no white of their own: it is the
    least of 1 (floats only), 255 and 65,535 that holds the image's values, and if none does, or
    some are negative, the image's own range is stretched. NaN is black.
    """
    low, high = grey_range(grey)
    result = np.empty(grey.shape, dtype=np.uint8)
    parts = 1 + grey.size // PART
    for part, target in zip(
        np.array_split(grey, parts), np.array_split(result, parts), strict=True
    ):
        scaled = np.subtract(part, low, dtype=np.float64) * (255 / (high - low))
        target[...] = np.rint(np.nan_to_num(scaled, nan=0).clip(0, 255))
    return result


def grey_range(grey: NDArray[np.generic]) -> tuple[float, float]:
    """The values that become black and white."""
    if grey.dtype.itemsize == 2:
        return 0, 65_535
    if grey.dtype.kind == "f":
        finite = np.isfinite(grey)
        low = float(np.min(grey, where=finite, initial=np.inf))
        high = float(np.max(grey, where=finite, initial=-np.inf))
    else:
        low, high = float(grey.min()), float(grey.max())
    for white in (1, 255, 65_535) if grey.dtype.kind == "f" else (255, 65_535):
        if low >= 0 and high <= white:
            return 0, white
    return low, high if high > low else low + 1


def ignore_pillow_warnings() -> None:
    """Warnings about odd but readable files would only bury the audit's summary."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` checks the size


@contextmanager
def no_pillow_warnings() -> Iterator[None]:
    """Without Pillow's warnings in this block."""
    with warnings.catch_warnings():
        ignore_pillow_warnings()
        yield

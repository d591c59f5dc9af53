"""The bytes of a stranger's image file -> its pixels, decoded with care."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import TypeVar

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # no EPS: Pillow would start Ghostscript
MAX_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs, 256 MiB of RGB
BATCH = 16  # files handed to a thread at once: one by one, 32x32 images cost more to hand over
WINDOW = 16  # batches under way, which bounds what waits in memory

T = TypeVar("T")
R = TypeVar("R")


def decode(data: bytes) -> Image.Image:
    """The image in RGB. Raises ValueError, whatever is wrong with the bytes."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height <= MAX_PIXELS:
                return image.convert("RGB")
            problem = f"{image.width}x{image.height} pixels are too many"
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost any class on damaged bytes
        problem = str(error) or type(error).__name__
        if "cannot identify image file" in problem:
            problem = "not an image"
    raise ValueError(problem)


@contextmanager
def no_pillow_warnings() -> Iterator[None]:
    """Warnings about odd but readable files would only bury the audit's summary."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` checks the size
        yield


def threaded(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`map` in order on a few threads; Pillow and hashlib let others run while they work."""

    def run(start: int) -> list[R]:
        return [function(item) for item in items[start : start + BATCH]]

    starts = range(0, len(items), BATCH)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for first in range(0, len(starts), WINDOW):
            for results in pool.map(run, starts[first : first + WINDOW]):
                yield from results

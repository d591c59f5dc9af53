"""Image files outside of prepared data, decoded as `pack` does it: for `predict --images`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.images import decode, no_pillow_warnings, read_file
from data_prep.layout import Layout
from data_prep.pack import ImageArrays, packed_size
from data_prep.workers import threads, usable_cores
from data_prep.write_arrays import to_pixels


def decode_usable(
    files: Sequence[str | Path], layout: Layout
) -> tuple[ImageArrays, dict[str, str]]:
    """The images that can be decoded, in order, and why each of the other files cannot."""

    def attempt(path: str | Path) -> NDArray[np.uint8] | str:
        try:
            return decode_file(layout, Path(path))
        except ValueError as error:
            return str(error)

    with no_pillow_warnings(), threads(usable_cores()) as pool:
        results = dict(zip(map(str, files), pool.map(attempt, files), strict=True))
    unusable = {path: text for path, text in results.items() if isinstance(text, str)}
    decoded = [image for image in results.values() if not isinstance(image, str)]
    return as_arrays(decoded, layout), unusable


def as_arrays(decoded: Sequence[NDArray[np.uint8]], layout: Layout) -> ImageArrays:
    """The decoded images as one array."""
    if layout.image_size is not None:
        shape = (len(decoded), layout.image_size, layout.image_size, 3)
        return ImageArrays(np.array(decoded, dtype=np.uint8).reshape(shape), None)
    shapes = np.array([image.shape[:2] for image in decoded], dtype=np.int32).reshape(-1, 2)
    flat = [image.reshape(-1) for image in decoded]
    return ImageArrays(np.concatenate([np.zeros(0, dtype=np.uint8), *flat]), shapes)


def decode_file(layout: Layout, path: Path) -> NDArray[np.uint8]:
    """Decode one file. Raises ValueError with the reason where it cannot be used."""
    try:
        data = read_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot be read: {reason}") from None
    try:
        image = decode(data)
    except ValueError as error:
        raise ValueError(f"does not decode: {error}") from None
    return to_pixels(image, *packed_size(layout, image.height, image.width))

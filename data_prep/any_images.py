"""Any labelled images: class folders, or a table with images, in whatever form they come.

Small ones (of 64 pixels at most, by the median of their longer sides) are packed to one square,
others to a short side of 256, as the evaluation transform of the ImageNet networks wants it.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from data_prep.layout import Layout

SMALL_SIDE = 64  # pixels: up to here a network is trained from scratch on whole images
LEAST_SIDE = 8  # pixels: three halvings of a residual network leave one


def fit(layout: Layout, sizes: Sequence[tuple[int, int]]) -> Layout:
    """The layout for images of these sizes, (height, width) each."""
    side = round(statistics.median(max(size) for size in sizes))
    if side > SMALL_SIDE:
        return layout
    return dataclasses.replace(layout, image_size=max(side, LEAST_SIDE), short_side=None)


LAYOUT = Layout(task="images", short_side=256, fit=fit)

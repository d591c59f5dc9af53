"""How long functions show their progress: they pass their items through a `Track`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Yields the items unchanged and shows how many of `total` are done."""

    def __call__(self, items: Iterable[T], total: int, description: str) -> Iterable[T]: ...


def no_progress(items: Iterable[T], total: int, description: str) -> Iterable[T]:
    """The default `Track`: shows nothing."""
    return items

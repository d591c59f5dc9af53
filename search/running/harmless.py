"""Callbacks that can not stop a search: an error is told once, and the callback is left out.

An exception in a callback kills a Ray Tune search. What only watches (the live view, TensorBoard, a
tracker whose server goes away in the middle of the night) must not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ray.tune import Callback

F = TypeVar("F", bound=Callable[..., None])


class Watcher(Callback):  # type: ignore[misc]
    """A callback whose hooks are `harmless`."""

    name = ""
    notice: Callable[[str], None] | None = None
    """Says one line; None once the watcher is off."""

    def is_off(self) -> bool:
        """Whether it acts no more."""
        return self.notice is None

    def switch_off(self, error: Exception) -> None:
        """Say so, and act no more."""
        notice, self.notice = self.notice, None
        if notice is not None:
            name = self.name or type(self).__name__
            notice(f"{name} is off ({type(error).__name__}: {error}); the search goes on")


def harmless(method: F) -> F:
    """A watcher's hook that switches the watcher off instead of raising."""

    @wraps(method)
    def guarded(self: Watcher, *args: Any, **info: Any) -> None:
        if self.is_off():
            return
        try:
            method(self, *args, **info)
        except Exception as error:
            self.switch_off(error)

    return guarded  # type: ignore[return-value]

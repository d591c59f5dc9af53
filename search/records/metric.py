"""The direction of the metric: whether more of it is better."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar


class Signed(Protocol):
    """A number or an array of numbers."""

    def __neg__(self) -> Any:
        """The same with the other sign."""


Value = TypeVar("Value", bound=Signed)


def oriented(value: Value, mode: str) -> Value:
    """The value, or array of values, turned so that higher is better; its own inverse."""
    if mode == "max":
        return value
    turned: Value = -value
    return turned

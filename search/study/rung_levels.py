"""The epochs at which trials are compared."""

from __future__ import annotations


def rung_levels(num_epochs: int, grace_period: int, reduction_factor: float) -> tuple[int, ...]:
    """The epochs below `num_epochs` at which trials are compared: grace x factor^k."""
    if not 1 <= grace_period:
        raise ValueError(f"grace_period must be at least 1 epoch, not {grace_period}")
    if not reduction_factor > 1:
        raise ValueError(f"reduction_factor must be above 1, not {reduction_factor}")
    levels: list[int] = []
    level = float(grace_period)
    while round(level) < num_epochs:
        if not levels or round(level) > levels[-1]:
            levels.append(round(level))
        level *= reduction_factor
    return tuple(levels)

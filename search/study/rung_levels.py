"""The epochs at which trials are compared."""

from __future__ import annotations

import math


def first_rung(num_epochs: int) -> int:
    """The grace period in epochs where none is given: a seventeenth of the budget, at least 2.

    That is what was measured: 2 of 20 epochs on real curves (tests/benchmarks/early_looks.py), 3 of
    52 on LCBench (search_quality.py), where 2 ends worse.
    """
    return max(2, round(num_epochs / 17))


def rung_levels(
    num_epochs: int, grace_period: int | None, reduction_factor: float
) -> tuple[int, ...]:
    """The epochs below `num_epochs` at which trials are compared: grace x factor^k.

    A grace period of None is that of `first_rung`.

    Left out is one that is closer to the end than half a step (on the scale of logarithms): a trial
    that waits at epoch 18 of 20 has cost almost all, and is told nothing new by its rank there.
    """
    grace_period = first_rung(num_epochs) if grace_period is None else grace_period
    if not 1 <= grace_period:
        raise ValueError(f"grace_period must be at least 1 epoch, not {grace_period}")
    if not reduction_factor > 1:
        raise ValueError(f"reduction_factor must be above 1, not {reduction_factor}")
    levels = [grace_period] if grace_period < num_epochs else []
    level = grace_period * reduction_factor
    while levels and round(level) * math.sqrt(reduction_factor) <= num_epochs:
        if round(level) > levels[-1]:
            levels.append(round(level))
        level *= reduction_factor
    return tuple(levels)

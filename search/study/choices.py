"""What `sampler` and `scheduler` may be, and their defaults; which of them wins is measured."""

from __future__ import annotations

from typing import Literal, get_args

SAMPLERS = {
    "gp": "search.samplers.gp_sampler:GPSampler",
    "tpe": "search.samplers.optuna_sampler:tpe",
    "random": "search.samplers.optuna_sampler:random",
    "cmaes": "search.samplers.optuna_sampler:cmaes",
}
"""Name -> where a `search.samplers.sampler.Sampler` is made; imported when a search uses it."""
Scheduler = Literal["promoting", "asha", "none"]
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)

SAMPLER = "gp"  # these three win tests/benchmarks/search_quality.py
SCHEDULER: Scheduler = "promoting"
REDUCTION_FACTOR = 3
AUDIT_SHARE = 0.0  # a tenth costs more than it gains: tests/benchmarks/early_looks.py


def first_rung(num_epochs: int) -> int:
    """The grace period in epochs where none is given: a seventeenth of the budget, at least 2.

    That is what was measured: 2 of 20 epochs on real curves (tests/benchmarks/early_looks.py), 3 of
    52 on LCBench (search_quality.py), where 2 ends worse.
    """
    return max(2, round(num_epochs / 17))


def check_sampler_name(sampler: str) -> str:
    """The name. Raises ValueError for one that no sampler has."""
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}: choose {one_of(list(SAMPLERS))}")
    return sampler


def one_of(names: list[str]) -> str:
    """As a sentence lists them: gp, tpe or random."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

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


def check_sampler_name(sampler: str) -> str:
    """The name. Raises ValueError for one that no sampler has."""
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}: choose {one_of(list(SAMPLERS))}")
    return sampler


def check_scheduler_name(scheduler: str) -> str:
    """The name. Raises ValueError for one that no scheduler has."""
    if scheduler not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {scheduler!r}: use {', '.join(SCHEDULERS)}")
    return scheduler


def one_of(names: list[str]) -> str:
    """As a sentence lists them: gp, tpe or random."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

"""What a sampler is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from search.samplers.trial import SearchTrial
from search.study.space import Config

Proposal = tuple[Config, dict[str, Any]]
"""A configuration, and what the sampler wants remembered with it: `SearchTrial.sampler_attrs`."""
IsNew = Callable[[Config], bool]


class Exhausted(Exception):
    """A sampler that has a list of points of its own has proposed them all."""


class Sampler(Protocol):
    """Proposes configurations, in the light of all trials so far.

    One is made with `(space, mode, levels, seed)`: `levels` are the rungs' epochs and the full
    budget, ascending. Raises ValueError for a space that it cannot search.
    """

    def propose(self, trials: Sequence[SearchTrial], is_new: IsNew) -> Proposal | None:
        """A configuration of the space that `is_new`; None where it only repeats itself.

        A random one takes its place then. Raises Exhausted where the search shall end instead.
        """

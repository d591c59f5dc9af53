"""Configurations that have not been tried: those that are given, then what the sampler proposes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler

from search.samplers.encoding import Encoding
from search.samplers.make import make_sampler
from search.samplers.sampler import Exhausted, Proposal
from search.samplers.trial import Mode, SearchTrial
from search.study.space import Config, Key, Space, active, grid, key, project

RANDOM_TRIES = 200  # random configurations before a space too large to list counts as exhausted


@dataclass(frozen=True)
class Candidate:
    """What to try next."""

    config: Config
    origin: str
    attrs: dict[str, Any] = field(default_factory=dict)
    """What the sampler wants to be told again with the result."""


class Candidates:
    """Gives each configuration of a space once at most."""

    def __init__(
        self,
        space: Space,
        sampler: str | BaseSampler,
        mode: Mode,
        levels: tuple[int, ...],
        *,
        seed: Sequence[int],
        given: Iterable[tuple[Mapping[str, Any], str]],
        tried: Iterable[Mapping[str, Any]],
    ) -> None:
        """`given` holds configurations with their origin, which come first, but for those `tried`.

        `levels` are the epochs at which trials are compared, the last one among them.
        """
        self.space = space
        self._seen = {self._key(config) for config in tried}
        self._rng = np.random.default_rng(seed)
        sampler_seed = int(self._rng.integers(2**31))
        self._encoding = Encoding(space)
        self._sampler = make_sampler(sampler, space, mode, levels, sampler_seed)
        queue: dict[Key, Candidate] = {}
        for config, origin in given:
            projected = project(space, config)
            if self._is_new(projected):
                queue.setdefault(self._key(projected), Candidate(projected, origin))
        self._queue = deque(queue.values())

    def next(self, results: Sequence[SearchTrial]) -> Candidate:
        """The next one, in the light of the results so far.

        Raises Exhausted when the space holds no more, or the sampler has proposed all it has.
        """
        if self._queue:
            found = self._queue.popleft()
        else:
            config, attrs = self._proposal(results)
            found = Candidate(config, "sampler", attrs)
        self._seen.add(self._key(found.config))
        return found

    def _key(self, config: Mapping[str, Any]) -> Key:
        """What makes a configuration distinct: the searched knobs that exist in it."""
        return key({name: config[name] for name in active(self.space, config)})

    def _is_new(self, config: Mapping[str, Any]) -> bool:
        return self._key(config) not in self._seen

    def _proposal(self, results: Sequence[SearchTrial]) -> Proposal:
        """The sampler's; where it has none, a random one of those that are left."""
        proposal = self._sampler.propose(results, self._is_new) if self.space else None
        return proposal or (self._random(), {})

    def _random(self) -> Config:
        points = grid(self.space)
        if points is not None:
            left = [point for point in points if self._is_new(point)]
            if left:
                return left[self._rng.integers(len(left))]
        else:
            draws = self._encoding.draw(RANDOM_TRIES, self._rng)
            for config in map(self._encoding.config, draws):
                if self._is_new(config):
                    return config
        raise Exhausted("the search space holds no further configuration")

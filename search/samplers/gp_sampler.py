"""Proposals from a Gaussian process over configurations and epochs: the sampler `gp`.

Every rung's values inform one model (`gp_model`); a new configuration is the one of the largest
expected improvement at the full budget, over the best that is predicted for a trial so far.
What the settings below were chosen by stands in `tests/benchmarks/search_quality.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from search.records.metric import oriented
from search.records.statuses import BAD, FINISHED
from search.samplers.encoding import Array, Encoding
from search.samplers.gp_model import GPModel, expected_improvement, standardise
from search.samplers.sampler import IsNew, Proposal
from search.samplers.trial import Mode, SearchTrial
from search.study.space import Space, contains

RANDOM_SHARE = 0.1  # proposals left to chance, so that no region is never tried
MOST = 160  # observations in the model: the cost of a proposal must not grow with the search
DRAWS = 256  # candidates from the prior, and as many near the best trials
PARENTS = 5  # best trials whose neighbourhood is searched
STEP = 0.1  # of a knob's range: size of a step away from a parent (x 0.3, 1 or 3)
NEARER = (1.0, 0.5)  # of STEP: DRAWS more candidates each time, near the best LEADERS so far
LEADERS = 24
REFIT = 1.15  # growth of the number of observations between two fits of the length scales


Place = tuple[Array, Array]
"""A configuration's point and its features."""
Level = tuple[float, float]
"""s = log(epoch)/log(full budget), and the oriented value there."""


@dataclass(frozen=True)
class Data:
    """Observations: the trial's row, s = log(epoch)/log(full budget), the oriented value."""

    row: NDArray[np.int64]
    s: Array
    value: Array


class GPSampler:
    """Expected improvement at the full budget; failed and diverged trials count as worst."""

    def __init__(self, space: Space, mode: Mode, levels: Sequence[int], seed: int) -> None:
        """`levels` are the rungs' epochs and the full budget, ascending."""
        self.space = space
        self.encoding = Encoding(space)
        self.mode = mode
        self.levels = tuple(levels)
        self.rng = np.random.default_rng(seed)
        self.enough = len(space) + 1
        self.threads = ThreadpoolController()
        self.places: dict[SearchTrial, Place | None] = {}
        self.settled: dict[SearchTrial, list[Level]] = {}
        self.model: GPModel | None = None
        self.fitted = 0

    def propose(self, trials: Sequence[SearchTrial], is_new: IsNew) -> Proposal | None:
        """A configuration, and nothing to remember; None if all candidates have been tried."""
        inside = [trial for trial in trials if self._place(trial) is not None]
        data = self._data(inside)
        points = self.encoding.draw(DRAWS, self.rng)
        if len(set(data.row.tolist())) >= self.enough and self.rng.random() >= RANDOM_SHARE:
            with self.threads.limit(limits=1):  # small matrices; the cores belong to the trials
                points = self._best_first(inside, data, points)
        for point in points:
            config = self.encoding.config(point)
            if is_new(config):
                return config, {}
        return None

    def _place(self, trial: SearchTrial) -> Place | None:
        """Where the trial lies, None if outside the space; worked out once."""
        if trial not in self.places:
            place = None
            if contains(self.space, trial.config):
                point = self.encoding.point(trial.config)
                place = point, self.encoding.features(point[None])[0]
            self.places[trial] = place
        return self.places[trial]

    def _best_first(self, trials: list[SearchTrial], data: Data, draws: Array) -> Array:
        """Candidates, that of the largest expected improvement first."""
        places = [place for place in map(self.places.__getitem__, trials) if place is not None]
        rows = np.array([point for point, _ in places])
        features = np.array([seen for _, seen in places])
        chosen = self._selected(data)
        model, seen = self._fit(features, data, chosen), np.unique(data.row[chosen])
        mean, _ = model.predict(features[seen], 1.0)
        best = float(mean.max())
        new = [i for i, t in enumerate(trials) if t.status == "running" and not t.values]
        if new:
            model = model.believe(features[new])
        parents = rows[seen[np.argsort(-mean)[:PARENTS]]]
        candidates = np.vstack([draws, self._near(parents, STEP)])
        gain = self._gain(model, candidates, best)
        for scale in NEARER:
            leaders = candidates[np.argsort(-gain, kind="stable")[:LEADERS]]
            closer = self._near(leaders, scale * STEP)
            candidates = np.vstack([candidates, closer])
            gain = np.r_[gain, self._gain(model, closer, best)]
        return np.asarray(candidates[np.argsort(-gain, kind="stable")])

    def _gain(self, model: GPModel, points: Array, best: float) -> Array:
        """The expected improvement at the full budget."""
        return expected_improvement(*model.predict(self.encoding.features(points), 1.0), best)

    def _fit(self, features: Array, data: Data, chosen: NDArray[np.int64]) -> GPModel:
        """The model of the chosen data; its length scales are fitted anew as the data grow."""
        model = self.model or GPModel.default(features.shape[1])
        x, s = features[data.row[chosen]], data.s[chosen]
        y = standardise(data.value[chosen])
        if len(data.row) >= REFIT * self.fitted:
            model = model.tune(x, s, y)
            self.fitted = len(data.row)
        self.model = model.condition(x, s, y)
        return self.model

    def _selected(self, data: Data) -> NDArray[np.int64]:
        """At most MOST observations: of each level the best and the newest, in equal parts."""
        chosen: list[NDArray[np.int64]] = []
        levels = sorted(set(data.s.tolist()), reverse=True)
        left = MOST
        for position, level in enumerate(levels):
            at = np.flatnonzero(data.s == level)
            share = left // (len(levels) - position)
            if len(at) > share:
                best = at[np.argsort(-data.value[at], kind="stable")][: share // 2]
                newest = np.setdiff1d(at, best)[-(share - share // 2) :]
                at = np.union1d(best, newest)
            chosen.append(at)
            left -= len(at)
        return np.sort(np.concatenate(chosen))

    def _near(self, parents: Array, step: float) -> Array:
        """DRAWS points near the parents: some knobs moved, reflected at the edges of the range."""
        base = np.repeat(parents, -(-DRAWS // len(parents)), axis=0)
        moved = self.rng.random(base.shape) < max(0.3, 2 / base.shape[1])
        size = step * self.rng.choice([0.3, 1.0, 3.0], (len(base), 1))
        points = np.abs(base + moved * size * self.rng.normal(size=base.shape))
        return np.asarray(np.clip(np.where(points > 1, 2 - points, points), 0, 1))

    def _data(self, trials: list[SearchTrial]) -> Data:
        """Each trial's value at each level that it has reached; -inf at the top for a bad one."""
        row: list[int] = []
        s: list[float] = []
        value: list[float] = []
        for index, trial in enumerate(trials):
            known = self.settled[trial] if trial in self.settled else self._known(trial)
            for place, known_value in known:
                row.append(index)
                s.append(place)
                value.append(known_value)
        return Data(np.array(row, dtype=np.int64), np.array(s), np.array(value))

    def _known(self, trial: SearchTrial) -> list[Level]:
        """One trial's (s, oriented value); those of a finished trial are worked out once."""
        if trial.status in BAD:
            at: list[tuple[int, float | None]] = [(self.levels[-1], -np.inf)]
        else:
            values = ((level, trial.value_at(level)) for level in self.levels)
            at = [(level, None if v is None else oriented(v, self.mode)) for level, v in values]
        top = np.log(max(self.levels[-1], 2))
        known = [(float(np.log(level) / top), v) for level, v in at if v is not None]
        if trial.status in FINISHED:
            self.settled[trial] = known
        return known

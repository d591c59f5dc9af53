"""Several models as one prediction, and which of them to take.

    p(x) = sum_g W_g mean_l softmax(sum_{m in g} w_m / W_g z_m,l(x)),   W_g = sum_{m in g} w_m

over groups g of models m, with logits z by looks l at the image. The models of a group are linear
heads on the same features, merged into one: their logits are averaged (trainables/backbones/
merged.py); any other model is a group of its own. What is selected and calibrated here so is what
the retrained models predict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import softmax

from search.finishing.calibrate import Floats
from search.finishing.out_of_fold import Key, Labels


@dataclass
class Mixture:
    """Models picked so far, with replacement."""

    groups: Mapping[Key, str]
    """What is merged with what."""
    picks: Counter[Key] = field(default_factory=Counter)
    sums: dict[str, Floats] = field(default_factory=dict)
    """Group -> sum of its picks' logits, (L, N, C)."""
    parts: dict[str, Floats] = field(default_factory=dict)
    """Group -> its probabilities (N, C), times the number of its picks."""

    def with_one_more(self, key: Key, logits: Floats) -> tuple[Floats, Floats, Floats]:
        """The whole's probabilities with another pick; sum and part of its group by then."""
        group = self.groups[key]
        count = sum(n for each, n in self.picks.items() if self.groups[each] == group) + 1
        total = self.sums[group] + logits if group in self.sums else logits
        part = count * softmax(total / count, axis=2).mean(axis=0)
        others = [each for name, each in self.parts.items() if name != group]
        return sum(others, part) / (self.picks.total() + 1), total, part

    def add(self, key: Key, logits: Floats) -> Floats:
        """Pick a model; what all predict now."""
        whole, total, part = self.with_one_more(key, logits)
        self.sums[self.groups[key]], self.parts[self.groups[key]] = total, part
        self.picks[key] += 1
        return whole


def mix(
    picks: Mapping[Key, int], logits: Mapping[Key, Floats], groups: Mapping[Key, str]
) -> Floats:
    """Probabilities of the images, (N, C); `logits` (L, N, C) of each model by all looks."""
    mixture, whole = Mixture(groups), None
    for key, count in picks.items():
        for _ in range(count):
            whole = mixture.add(key, logits[key])
    assert whole is not None
    return whole


def select(
    logits: Mapping[Key, Floats],
    labels: Labels,
    groups: Mapping[Key, str],
    most: int,
    score: Callable[[Floats, Labels], Floats],
) -> Counter[Key]:
    """Greedy selection with replacement (Caruana et al., ICML 2004), stopped early.

    The best model, then whichever makes the mean score of what has been picked the best, until none
    does or there are `most`; the first in the order of `logits` among equals.
    """
    mixture, reached = Mixture(groups), -np.inf
    for _ in range(most):
        tried: dict[Key, float] = {}
        for key, each in logits.items():
            tried[key] = float(score(mixture.with_one_more(key, each)[0], labels).mean())
        key = max(tried, key=lambda each: tried[each])
        if not tried[key] > reached:
            break
        reached = tried[key]
        mixture.add(key, logits[key])
    return mixture.picks

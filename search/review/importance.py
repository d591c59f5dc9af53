"""How much each searched knob matters, from trials compared at the same epoch.

Most trials of a search are stopped early, so final scores alone would leave them out, and mixing
scores of different epochs would measure how long a trial ran. Trials are therefore compared at
a rung: by their best value up to that epoch, among all that reached it; one that diverged before it
counts as worst. The scores become ranks, so that no outlier decides.

A random forest is fitted to a bootstrap sample of the trials, and each knob's values are shuffled
among the trials left out of the sample (permutation importance; Breiman, "Random forests", 2001).
The importance is how much of the explained variance is lost. It is repeated over BOOTSTRAPS
samples: the spread is the uncertainty, and `skill` says whether the forest knows anything at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from search.records.knobs import Knob, is_active, position
from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.search import Search
from search.study.rung_levels import rung_levels

BOOTSTRAPS = 16
TREES = 32
LEAST_TRIALS = 16  # fewer say nothing about several knobs
MOST_TRIALS = 500  # a random choice of more would not change the figure
INACTIVE = -0.5  # where a knob that a configuration has no use for stands on its 0 to 1 scale

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """Each knob's share of the explained variance among `trials` trials compared at `epoch`.

    `mean`, `low` and `high` (10 and 90 % of the bootstrap samples) map knobs to shares of all
    variance, 0 to 1. `skill` is the R^2 on the trials left out; at 0 or below nothing is known.
    """

    epoch: int
    trials: int
    mean: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    skill: float


def importances(search: Search, seed: int = 0) -> list[Importance]:
    """The importance at the earliest and at the latest epoch that enough trials reached."""
    levels = comparable_epochs(search)
    chosen = dict.fromkeys([*levels[:1], *levels[-1:]])
    return [importance_at(search, epoch, seed) for epoch in chosen]


def comparable_epochs(search: Search) -> list[int]:
    """The rungs and the full budget, as far as LEAST_TRIALS trials (or 2 a knob) reached them."""
    least = max(LEAST_TRIALS, 2 * len(search.knobs))
    levels = [*rungs_of(search), search.info.num_epochs]
    return [epoch for epoch in levels if len(scores_at(search, epoch)) >= least]


def rungs_of(search: Search) -> tuple[int, ...]:
    """The epochs at which the search compared its trials; none without early stopping."""
    info = search.info
    if info.scheduler == "none" or info.grace_period is None or info.reduction_factor is None:
        return ()
    return rung_levels(info.num_epochs, info.grace_period, info.reduction_factor)


def scores_at(search: Search, epoch: int) -> dict[str, float]:
    """Each comparable trial's best value up to the epoch; minus infinity if it diverged before.

    Higher is better, whatever the metric.
    """
    scores = {}
    for record in search.records.values():
        if record.epochs >= epoch:
            values = finite_values(record, search.metric, epoch)
            scores[record.trial_id] = max(
                (oriented(value, search.mode) for value in values), default=-math.inf
            )
        elif record.status == "diverged":
            scores[record.trial_id] = -math.inf
    return scores


def finite_values(record: TrialRecord, metric: str, last: int) -> list[float]:
    """The finite values of the metric up to an epoch."""
    values = (m.get(metric, math.nan) for epoch, m in record.history.items() if epoch <= last)
    return [value for value in values if math.isfinite(value)]


def importance_at(search: Search, epoch: int, seed: int = 0) -> Importance:
    """The importance of every searched knob among the trials that reached the epoch."""
    rng = np.random.default_rng(seed)
    scores = scores_at(search, epoch)
    ids = sorted(scores)
    if len(ids) > MOST_TRIALS:
        ids = sorted(rng.choice(ids, MOST_TRIALS, replace=False).tolist())
    features, owners = encode(search.knobs, [search.records[i].config for i in ids])
    targets = ranks(np.array([scores[i] for i in ids]))
    losses, skills = bootstrap(features, owners, targets, len(search.knobs), rng)
    names = list(search.knobs)
    low, high = np.quantile(losses, [0.1, 0.9], axis=0)
    return Importance(
        epoch,
        len(scores),
        dict(zip(names, losses.mean(axis=0).tolist(), strict=True)),
        dict(zip(names, low.tolist(), strict=True)),
        dict(zip(names, high.tolist(), strict=True)),
        float(np.mean(skills)),
    )


def bootstrap(
    features: Array, owners: Array, targets: Array, knobs: int, rng: np.random.Generator
) -> tuple[Array, list[float]]:
    """Loss of R^2 by shuffling each knob, (BOOTSTRAPS, knobs), at least 0; and the R^2 itself."""
    losses, skills = np.zeros((BOOTSTRAPS, knobs)), []
    for round_number in range(BOOTSTRAPS):
        inside = rng.integers(len(targets), size=len(targets))
        outside = np.setdiff1d(np.arange(len(targets)), inside)
        forest = ExtraTreesRegressor(
            TREES, min_samples_leaf=2, bootstrap=False, random_state=int(rng.integers(2**31))
        )
        forest.fit(features[inside], targets[inside])
        held, truth = features[outside], targets[outside]
        shuffled = [shuffle(held, owners == knob, rng) for knob in range(knobs)]
        predicted = forest.predict(np.concatenate([held, *shuffled])).reshape(knobs + 1, -1)
        variance = max(float(np.var(targets)), 1e-12)
        errors = ((predicted - truth) ** 2).mean(axis=1) / variance
        skills.append(1 - float(errors[0]))
        losses[round_number] = np.clip(errors[1:] - errors[0], 0, 1)
    return losses, skills


def shuffle(features: Array, columns: Any, rng: np.random.Generator) -> Array:
    """The features with some columns shuffled among the rows, together."""
    mixed = features.copy()
    mixed[:, columns] = features[rng.permutation(len(features))][:, columns]
    return mixed


def encode(knobs: dict[str, Knob], configs: Sequence[dict[str, Any]]) -> tuple[Array, Array]:
    """Configurations as numbers, (trials, columns), and the knob that each column belongs to.

    A numeric knob is one column, its position in its range; any other has a column a choice.
    """
    columns: list[list[float]] = []
    owners: list[int] = []
    for number, (name, knob) in enumerate(knobs.items()):
        active = [is_active(knobs, name, config) for config in configs]
        values = [config.get(name) for config in configs]
        if knob.choices is None:
            pairs = zip(active, values, strict=True)
            columns.append([place(knob, value) if on else INACTIVE for on, value in pairs])
            owners.append(number)
            continue
        for choice in knob.choices:
            pairs = zip(active, values, strict=True)
            columns.append([float(on and value == choice) for on, value in pairs])
            owners.append(number)
    return np.array(columns, dtype=np.float64).T, np.array(owners, dtype=np.float64)


def place(knob: Knob, value: Any) -> float:
    """The position of a value in its range; what is no number stands at the low end."""
    return float(np.nan_to_num(position(knob, value)))


def ranks(scores: Array) -> Array:
    """The scores as ranks from 0 (worst) to 1, equal scores with their mean rank."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middle[inverse] / max(len(scores) - 1, 1), dtype=np.float64)

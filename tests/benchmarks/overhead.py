"""What the machinery costs: seconds a trial that does nothing but report, beside plain Ray Tune.

Every trial reports five epochs; its metric is the clock, so that no trial is ever stopped and all
three ways do the same work. This project runs with ledger, journal, tables and stopping ASHA on;
plain Ray Tune with Ray's own OptunaSearch (TPE in all three), once with its defaults and once with
`reuse_actors=True`. Times run from the connected cluster to the end, first workers included.

    python -m tests.benchmarks.overhead [--quick]

The last line is one JSON object: `seconds_per_trial` by way, the ratios `vs_ray_default` and
`vs_ray_reuse`, `last_over_second_hundred` (seconds of trials 400-499 over those of 100-199),
`one_second_overhead` (wall time of one-second trials over the ideal), `trials_2000_seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from pydantic.dataclasses import dataclass
from ray import tune

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from search.cluster.connection import connected
from search.records.ledger import read_events
from search.running.options import Options
from search.running.session import run_search
from search.study.overrides import customise
from search.study.study import Study
from trainables.config import TrainConfig

SLOTS = 2


@dataclass(frozen=True)
class ClockConfig(TrainConfig):
    """Two knobs to search, and how long a trial sleeps, in seconds."""

    x: float = 0.5
    y: float = 0.5
    sleep: float = 0.0


def report_clock(sleep: float, num_epochs: int) -> None:
    """The body of every trial."""
    time.sleep(sleep)
    for epoch in range(1, num_epochs + 1):
        now = time.time() / 1e10
        tune.report({"epoch": epoch, "valid_acc": now, "valid_loss": 0.0, "seconds": 0.0})


def trainable(
    config: dict[str, Any],
    *,
    data_dir: str,
    checkpoint_epochs: Sequence[int] = (),
    checkpoint_seconds: float = 60.0,
) -> None:
    """This project's trial."""
    report_clock(config["sleep"], config["num_epochs"])


def plain(config: dict[str, Any]) -> None:
    """Plain Ray Tune's trial."""
    report_clock(0.0, 5)


STUDY = Study(
    task="clock",
    layout=LAYOUT,
    trainables=sys.modules[__name__],
    config=ClockConfig(num_epochs=5),
    space={"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)},
    submission="label",
    sampler="tpe",
    scheduler="asha",
    grace_period=1,
)


def ours(data: PreparedData, folder: Path, num_samples: int, sleep: float = 0.0) -> list[float]:
    """Run this project's search; the times at which trials ended, from the session's start."""
    study = customise(STUDY, num_samples=num_samples, sets=[f"sleep={sleep}"])
    run_search(study, data, folder, Options())
    events = list(read_events(folder / "ledger.jsonl"))
    start = next(event["time"] for event in events if event["event"] == "session")
    return [event["time"] - start for event in events if event["event"] == "end"]


def ray_tune(folder: Path, num_samples: int, reuse: bool) -> float:
    """Run plain Ray Tune with OptunaSearch; seconds from the first trial's start to the end."""
    from ray.tune.search.optuna import OptunaSearch

    os.environ.pop("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", None)
    search = OptunaSearch(sampler=TPESampler(seed=0), metric="valid_acc", mode="max")
    space = {"x": tune.uniform(0, 1), "y": tune.uniform(0, 1)}
    config = tune.TuneConfig(
        search_alg=search,
        num_samples=num_samples,
        metric="valid_acc",
        mode="max",
        reuse_actors=reuse,
        max_concurrent_trials=SLOTS,
    )
    run = tune.RunConfig(storage_path=str(folder), name="plain", verbose=0)
    with connected(None):
        os.environ.pop("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", None)
        begun = time.monotonic()
        tune.Tuner(plain, param_space=space, tune_config=config, run_config=run).fit()
        return time.monotonic() - begun


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    count, slow, many, seconds_count = (60, 20, 200, 20) if quick else (500, 500, 2000, 500)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare(LAYOUT, None, folder / "data" / "clock")
        ends = ours(data, folder / "ours", count)
        reuse = ray_tune(folder / "reuse", count, reuse=True) / count
        default = ray_tune(folder / "default", slow, reuse=False) / slow
        long = ours(data, folder / "many", many)
        second = ours(data, folder / "second", seconds_count, sleep=1.0)
    mine = ends[-1] / count
    hundred = count // 5
    return {
        "vs_ray_default": mine / default,
        "vs_ray_reuse": mine / reuse,
        "last_over_second_hundred": (ends[-1] - ends[-1 - hundred])
        / (ends[2 * hundred - 1] - ends[hundred - 1]),
        "one_second_overhead": second[-1] / (seconds_count / SLOTS),
        "seconds_per_trial": {"ours": mine, "ray_default": default, "ray_reuse": reuse},
        "trials_2000_seconds": long[-1],
        "trials": {"ours": count, "ray_reuse": count, "ray_default": slow, "many": len(long)},
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trials, indicative")
    figures = measure(parser.parse_args().quick)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ",
        end="",
    )
    print(", ".join(f"{package} {version(package)}" for package in ("ray", "optuna")))
    for way, seconds in figures["seconds_per_trial"].items():
        print(f"  {way:12} {seconds:8.4f} s a trial ({figures['trials'][way]} trials)")
    print(f"  one-second trials take {figures['one_second_overhead']:.3f} x the ideal wall time")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""Does training well cost anything? Accuracy of bfloat16 beside float32, and of the better recipe.

    python -m tests.benchmarks.recipe [--quick] [--seeds 3] [--num-epochs 5]

The shared 5,000 CIFAR-10 images, one fixed split (4,500 train, 500 valid), the same seeds and
epochs for all: the notes' recipe (`CONFIG`) in the precision that `auto` chooses and in float32,
and `RECIPE` in `auto`. Validation accuracy after the last epoch; two trainings at a time, each with
one thread, as trials of a search.

The last line is one JSON object: `accuracy` (name -> mean, standard error of the mean, all seeds),
`fast_minus_float32` and its standard error, `recipe_minus_notes` and its standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.train_speed import prepared
from trainables.cifar10 import CONFIG, RECIPE, load_data, start
from trainables.config import CifarConfig
from trainables.loop import describe, fit

CONFIGS = {
    "notes": CONFIG,
    "notes, float32": dataclasses.replace(CONFIG, precision="float32"),
    "recipe": RECIPE,
}
Job = tuple[str, Path, CifarConfig]


def train(job: Job) -> tuple[str, int, float]:
    """Name, seed and the last validation accuracy of one training."""
    name, folder, config = job
    torch.set_num_threads(1)
    data = load_data(folder, config)
    state = start(config, data)
    begun = time.monotonic()
    curve = [metrics["valid_acc"] for metrics in fit(state, data.train, data.valid, config)]
    shown = " ".join(f"{accuracy:.3f}" for accuracy in curve)
    seconds = time.monotonic() - begun
    print(
        f"  {name:15} seed {config.seed}, {describe(state)['precision']}: {shown}, {seconds:.0f} s",
        flush=True,
    )
    return name, config.seed, curve[-1]


def standard_error(values: list[float]) -> float:
    """Of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def main() -> None:
    """Train, print a line for each training, a summary, and the JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, indicative")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num-epochs", type=int, default=5)
    options = parser.parse_args()
    seeds, num_epochs = (1, 1) if options.quick else (options.seeds, options.num_epochs)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = prepared(Path(name))
        jobs = [
            (name, folder, dataclasses.replace(config, num_epochs=num_epochs, seed=seed))
            for seed in range(seeds)
            for name, config in CONFIGS.items()
        ]
        with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
            done = pool.map(train, jobs, chunksize=1)
    found = {name: [accuracy for n, _, accuracy in done if n == name] for name in CONFIGS}
    print(json.dumps(summarise(found)))


def summarise(found: dict[str, list[float]]) -> dict[str, Any]:
    """Means, and differences with the standard error that the two means give them."""
    means = {name: statistics.mean(values) for name, values in found.items()}
    errors = {name: standard_error(values) for name, values in found.items()}

    def difference(one: str, other: str) -> dict[str, float]:
        error = (errors[one] ** 2 + errors[other] ** 2) ** 0.5
        return {"mean": round(means[one] - means[other], 4), "standard_error": round(error, 4)}

    for name, values in found.items():
        print(f"{name:15} {means[name]:.4f} +- {errors[name]:.4f} ({len(values)} seeds)")
    return {
        "accuracy": {
            name: {
                "mean": round(means[name], 4),
                "standard_error": round(errors[name], 4),
                "seeds": values,
            }
            for name, values in found.items()
        },
        "fast_minus_float32": difference("notes", "notes, float32"),
        "recipe_minus_notes": difference("recipe", "notes"),
    }


if __name__ == "__main__":
    main()

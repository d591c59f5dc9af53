"""Does training well cost anything? Accuracy of bfloat16 beside float32, and of the better recipe.

    python -m tests.benchmarks.recipe [--quick] [--seeds 3] [--num-epochs 10] [--device cpu]
        [--only earlier recipe]

The shared 5,000 CIFAR-10 images, one fixed split (4,500 train, 500 valid), the same seeds and
epochs for all: the notes' recipe (`CONFIG`) in the precision that `auto` chooses and in float32,
`RECIPE` in `auto`, and `EARLIER`, what `RECIPE` was before the pieces below. Accuracy on valid
after the last epoch, the better of weights and average, as a trial has it; two trainings at a time,
each with one thread, as trials of a search.

The last line is one JSON object: `accuracy` (name -> mean, standard error of the mean, all seeds),
`fast_minus_float32`, `recipe_minus_notes` and `recipe_minus_earlier` with their standard errors
(of the paired differences).

Pieces, each alone on top of `EARLIER`: gain in accuracy (better of weights and average), paired by
seed and split, +- its standard error. Left: 3,000 / 1,500 images, 10 epochs, 2 or 3 seeds (n).
Right: 22,500 / 2,500 images, 20 epochs, one seed, +- about .006. ResNet-18 in bfloat16 on an H200.
None of those kept costs time.

                                     n  10 epochs of 3,000   20 of 22,500
    whitening filters at the start   3   .099 +- .010         .000            kept
    lr of biases x 8                 3   .028 +- .005         .007            kept
    lr of biases x 64                2   .091 +- .016         below           searched
    flip in turns                    3   .023 +- .013         .006            kept
    reflected crops                  3   .034 +- .014         .000            kept
    batch 64, lr .05                 3   .090 +- .007                         searched
    batch 32, lr .025                3   .096 +- .010
    batch 256, lr .2                                          .002            kept
    batch 512, lr .4                                         -.009            searched
    lr .05                           3   .040 +- .020                         searched
    lr .2                            3  -.028 +- .014                         searched
    crops by 2 pixels, not 4         2   .063 +- .003
    momentum of batch norms .3       2   .022 +- .003
    decay of norms and biases        2   .013 +- .005                         searched
    cutout of 8 pixels               3   .012 +- .003        -.003
    cosine with 20 % warm-up         2   .016 +- .015
    weight decay 2e-3                2   .006 +- .017                         searched
    float32 for bfloat16             2   .006 +- .008
    24, 28, then 32 pixels           2  -.003 +- .009
    mixup (.2)                       2  -.002 +- .023
    average over three epochs        2  -.010 +- .045
    no label smoothing               2  -.034 +- .014                         searched
    CutMix in half of the batches    2  -.059 +- .006
    blocks begin as identity         3  -.063 +- .010        -.027

The four that are kept together, 3 seeds, 10 epochs of 3,000: .154 +- .027; with biases x 64 .149,
with crops by 2 pixels .149, with batch 64 and lr .05 .184 (2 seeds each). 20 epochs of 27,000, one
seed, 3,000 held out (mirrored mean): earlier .910 (.915); the four .918 (.916); with biases x 64
.911 (.923); with lr .05 .907 (.915); with decay of norms .921 (.921); with batch 256, lr .2 .922
(.921), which is `RECIPE`. Small batches help short trainings on few images and are in the space.
What was not kept is not in the code.
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

EARLIER = dataclasses.replace(
    CONFIG,
    batch_size=128,
    schedule="one_cycle",
    nesterov=True,
    label_smoothing=0.1,
    exclude_norm_decay=True,
    flip_average=True,
)
CONFIGS = {
    "notes": CONFIG,
    "notes, float32": dataclasses.replace(CONFIG, precision="float32"),
    "earlier": EARLIER,
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
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--at-once", type=int, default=2, help="trainings side by side")
    parser.add_argument("--device", default="cpu", help="as the knob: auto, cpu, cuda")
    options = parser.parse_args()
    seeds, num_epochs = (1, 1) if options.quick else (options.seeds, options.num_epochs)
    shared: dict[str, Any] = {"num_epochs": num_epochs, "device": options.device}
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {shared}")
    with tempfile.TemporaryDirectory() as name:
        folder = prepared(Path(name))
        jobs = [
            (name, folder, dataclasses.replace(config, seed=seed, **shared))
            for seed in range(seeds)
            for name, config in CONFIGS.items()
            if name in options.only
        ]
        with multiprocessing.get_context("spawn").Pool(options.at_once) as pool:
            done = pool.map(train, jobs, chunksize=1)
    found = {name: [accuracy for n, _, accuracy in done if n == name] for name in options.only}
    print(json.dumps(summarise(found)))


def summarise(found: dict[str, list[float]]) -> dict[str, Any]:
    """Means, and differences with their standard errors, paired by seed."""
    means = {name: statistics.mean(values) for name, values in found.items()}
    errors = {name: standard_error(values) for name, values in found.items()}

    def difference(one: str, other: str) -> dict[str, float] | None:
        if not {one, other} <= found.keys():
            return None
        gains = [mine - theirs for mine, theirs in zip(found[one], found[other], strict=True)]
        mean, error = statistics.mean(gains), standard_error(gains)
        return {"mean": round(mean, 4), "standard_error": round(error, 4)}

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
        "recipe_minus_earlier": difference("recipe", "earlier"),
    }


if __name__ == "__main__":
    main()

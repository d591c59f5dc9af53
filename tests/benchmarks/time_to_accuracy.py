"""Seconds and epochs to the accuracy of the notes' loop: their recipe and code beside `RECIPE`.

    python -m tests.benchmarks.time_to_accuracy [--quick] [--seeds 3] [--device cpu] [--at-once 1]

The shared 5,000 CIFAR-10 images, one fixed split (4,500 train, 500 valid). The notes: ImageFolder,
PIL, DataLoader, float32, lr 0.1 throughout, 20 epochs. The target is the mean over the seeds of
their accuracy on valid after epoch 20; their time that to the first epoch that reaches it (a seed
that never does counts as 20 epochs). `RECIPE` has a schedule that ends, so it is trained for 1, 2,
3, 4, 5, 6, 8 ... epochs, each length from the start; its time is that of the shortest training
whose mean over the seeds reaches the target. Seconds are those of training, without validation and
start. Each training has a process of its own, the two ways turn by turn.

The same over all 50,000 images, which can be stopped and gone on with (--resume):

    resnet-tune search cifar10 --name full --num-samples 2 --set scheduler=none

trains the notes' numbers (trial 0) and `RECIPE` (trial 1) for 20 epochs.

The last line is one JSON object: `ratio` (seconds), `epochs_ratio`, `target` and its
`target_standard_error`, and of both ways `epochs`, `seconds` and the last accuracies.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from tests.benchmarks.recipe import standard_error
from tests.benchmarks.train_speed import MEAN, STD, plain_loader, prepared
from trainables.cifar10 import CONFIG, RECIPE, build_model, load_data, start
from trainables.device import find_device
from trainables.loop import evaluate, train_epoch
from trainables.small_images import SmallImages

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
NOTES_EPOCHS = 20


@dataclasses.dataclass(frozen=True)
class Job:
    """One training."""

    way: Callable[[Job], Curve]
    folder: Path
    seed: int
    num_epochs: int
    num_images: int
    """Of an epoch."""
    device: str
    threads: int


@dataclasses.dataclass(frozen=True)
class Curve:
    """Accuracy on valid after each epoch, and the seconds that the epochs took."""

    accuracy: list[float]
    seconds: list[float]


def main() -> None:
    """Train both ways, print a line for each training, and the JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, 512 images, indicative")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="as the knob: auto, cpu, cuda")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side, of one way")
    options = parser.parse_args()
    seeds, epochs, images = (1, 2, 512) if options.quick else (options.seeds, NOTES_EPOCHS, 4500)
    threads = max(1, torch.get_num_threads() // options.at_once)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {options}")
    with (
        tempfile.TemporaryDirectory() as name,
        multiprocessing.get_context("spawn").Pool(options.at_once, maxtasksperchild=1) as pool,
    ):
        folder = prepared(Path(name))

        def trained(way: Callable[[Job], Curve], num_epochs: int) -> list[Curve]:
            rest = (num_epochs, images, options.device, threads)
            jobs = [Job(way, folder, seed, *rest) for seed in range(seeds)]
            return pool.map(run, jobs, chunksize=1)

        theirs = trained(notes, epochs)
        target = statistics.mean(curve.accuracy[-1] for curve in theirs)
        for length in LENGTHS:
            ours = trained(project, length)
            if statistics.mean(curve.accuracy[-1] for curve in ours) >= target:
                break
    print(json.dumps(summarise(theirs, ours, target)))


def run(job: Job) -> Curve:
    """The training, told in a line."""
    torch.set_num_threads(job.threads)
    curve = job.way(job)
    shown = " ".join(f"{accuracy:.3f}" for accuracy in curve.accuracy)
    name = f"{job.way.__name__} seed {job.seed}, {job.num_epochs} epochs"
    print(f"  {name:26}: {shown}, {sum(curve.seconds):.1f} s", flush=True)
    return curve


def notes(job: Job) -> Curve:
    """The notes' loop."""
    device = find_device(job.device)
    torch.manual_seed(job.seed)
    network = build_model(CONFIG, 10).to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), CONFIG.lr, CONFIG.momentum, weight_decay=CONFIG.weight_decay
    )
    train = plain_loader(job.folder, CONFIG.batch_size, workers=0)
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    valid = DataLoader(ImageFolder(str(job.folder / "valid"), normalise), batch_size=500)
    curve = Curve([], [])
    for _ in range(job.num_epochs):
        begun = time.perf_counter()
        network.train()
        for images, labels in itertools.islice(train, job.num_images // CONFIG.batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(network(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        curve.seconds.append(time.perf_counter() - begun)
        network.eval()
        with torch.inference_mode():
            right = [(network(x.to(device)).argmax(1).cpu() == y).float().sum() for x, y in valid]
        curve.accuracy.append(float(sum(right)) / len(valid.dataset))  # type: ignore[arg-type]
    return curve


def project(job: Job) -> Curve:
    """This project's loop and recipe; the better of weights and average, as a trial has it."""
    config = dataclasses.replace(
        RECIPE, num_epochs=job.num_epochs, seed=job.seed, device=job.device, flip_average=False
    )
    data = load_data(job.folder, config)
    assert isinstance(data.train, SmallImages)
    train = dataclasses.replace(data.train, rows=data.train.rows[: job.num_images])
    state = start(config, data)
    curve = Curve([], [])
    for epoch in range(job.num_epochs):
        begun = time.perf_counter()
        train_epoch(state, train, config)  # ends by reading the loss back from the device
        curve.seconds.append(time.perf_counter() - begun)
        state.epoch = epoch + 1
        assert state.average is not None
        looks = (evaluate(m, data.valid, config) for m in (state.network, state.average.model))
        curve.accuracy.append(max(look["valid_acc"] for look in looks))
    return curve


def summarise(theirs: list[Curve], ours: list[Curve], target: float) -> dict[str, Any]:
    """Ratios of the means over the seeds."""
    reached = [epochs_to(curve, target) for curve in theirs]
    their_seconds = [sum(c.seconds[:n]) for c, n in zip(theirs, reached, strict=True)]
    our_seconds = [sum(curve.seconds) for curve in ours]
    epochs = len(ours[0].accuracy)
    return {
        "ratio": round(statistics.mean(their_seconds) / statistics.mean(our_seconds), 2),
        "epochs_ratio": round(statistics.mean(reached) / epochs, 2),
        "target": round(target, 4),
        "target_standard_error": (
            round(standard_error([c.accuracy[-1] for c in theirs]), 4) if len(theirs) > 1 else None
        ),
        "notes": {
            "epochs": reached,
            "seconds": [round(s, 2) for s in their_seconds],
            "accuracy": [c.accuracy[-1] for c in theirs],
        },
        "project": {
            "epochs": epochs,
            "seconds": [round(s, 2) for s in our_seconds],
            "accuracy": [c.accuracy[-1] for c in ours],
        },
    }


def epochs_to(curve: Curve, target: float) -> int:
    """The first epoch that reaches the target; all of them where none does."""
    return next((n for n, a in enumerate(curve.accuracy, 1) if a >= target), len(curve.accuracy))


if __name__ == "__main__":
    main()

"""How fast ResNet-18 trains on real CIFAR-10 images, beside a plain loop and the bare network step.

    python -m tests.benchmarks.train_speed [--quick] [--device cpu]

In one run, on the same images and threads, each in a process of its own, turn by turn so that a
busy machine slows all alike:

  plain    ImageFolder, PIL transforms one image at a time, DataLoader, float32, NCHW (the notes')
  project  `train_epoch` on packed images: in the precision that `auto` chooses, and in float32
  bare     forward, backward and SGD step of the same network on one resident random batch
  input    augmentation to ready batches alone: the project's, and PIL in as many workers as cores
  trials   two processes with one thread each, both at work, and one process with all threads

The last line is one JSON object. Medians over the rounds of the ratios within a round: `vs_plain`,
`vs_plain_fp32` and `vs_bare` (project over plain, project in float32 over plain, project over
bare), `input_ratio`, `two_trials` (images/s of two one-core trials together over one two-core
trial's); `images_per_second` has the medians they come from.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from data_prep.cifar10 import LAYOUT
from data_prep.prepare import prepare
from tests.benchmarks.shared import shared_data
from tests.downloads import unpack_tar
from trainables.cifar10 import CONFIG, build_model, load_data, start
from trainables.config import CifarConfig
from trainables.device import find_device
from trainables.loop import train_epoch
from trainables.small_images import SmallImages

CLASSES = 10
MEAN, STD = (0.4731, 0.4822, 0.4465), (0.2212, 0.1994, 0.2010)  # the notes' own numbers
Way = Callable[[], float]
"""Does some batches; images a second."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    batch_size: int
    batches: int
    """Of one turn."""
    rounds: int
    trial_seconds: float
    """Of a turn of the concurrent trials."""
    input_epochs: int


FULL = Size(batch_size=256, batches=4, rounds=4, trial_seconds=20.0, input_epochs=10)
QUICK = Size(batch_size=128, batches=1, rounds=2, trial_seconds=5.0, input_epochs=3)


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small batches, indicative")
    parser.add_argument("--device", default="cpu", help="as the knob: auto, cpu, cuda, cuda:1, mps")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    config = dataclasses.replace(CONFIG, batch_size=size.batch_size, device=options.device)
    with tempfile.TemporaryDirectory() as name:
        folder = prepared(Path(name))
        rates = loops(folder, config, size) | input_paths(folder, config, size)
        if start(config, load_data(folder, config)).machine.device.type == "cpu":
            rates |= concurrent(folder, config, size)
    report(rates, config, size)


def prepared(folder: Path) -> Path:
    """The shared 5,000 images, prepared."""
    source = unpack_tar(shared_data() / "cifar10_kaggle_5000_1000.tar.gz", folder / "source")
    (labels,) = source.rglob(str(LAYOUT.labels))
    prepare(LAYOUT, labels.parent, folder / "cifar10")
    return folder / "cifar10"


def loops(folder: Path, config: CifarConfig, size: Size) -> dict[str, list[float]]:
    """Images a second of each loop in each round."""
    in_float32 = dataclasses.replace(config, precision="float32")
    with (
        other_process(plain, folder, config, size) as notes,
        other_process(project, folder, config, size) as fast,
        other_process(project, folder, in_float32, size) as fast_float32,
        other_process(bare, folder, config, size) as step,
    ):
        ways = {"plain": notes, "project": fast, "project, float32": fast_float32, "bare": step}
        for way in ways.values():
            way()  # warms up
        rounds = [{name: way() for name, way in ways.items()} for _ in range(size.rounds)]
    return {name: [rates[name] for rates in rounds] for name in ways}


@contextmanager
def other_process(
    make: Callable[[Path, CifarConfig, Size], Way], folder: Path, config: CifarConfig, size: Size
) -> Iterator[Way]:
    """A way in a process of its own: what one sets up (its allocator, say) is not the others'."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=answer, args=(make, folder, config, size, there))
    process.start()
    here.recv()

    def way() -> float:
        here.send(True)
        return float(here.recv())

    try:
        yield way
    finally:
        here.send(False)
        process.join()


def answer(
    make: Callable[[Path, CifarConfig, Size], Way],
    folder: Path,
    config: CifarConfig,
    size: Size,
    pipe: Any,
) -> None:
    """The other process: does its batches whenever it is asked to."""
    way = make(folder, config, size)
    pipe.send(True)
    while pipe.recv():
        pipe.send(way())


def rate(images: int, begun: float, device: torch.device) -> float:
    """Images a second since `begun`, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - begun)


def plain(folder: Path, config: CifarConfig, size: Size) -> Way:
    """The notes' loop."""
    device = find_device(config.device)
    network = build_model(config, CLASSES).to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    batches = endless(plain_loader(folder, size.batch_size, workers=0))

    def way() -> float:
        begun = time.perf_counter()
        network.train()
        for _ in range(size.batches):
            images, labels = next(batches)
            optimizer.zero_grad()
            functional.cross_entropy(network(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        return rate(size.batches * size.batch_size, begun, device)

    return way


def plain_loader(folder: Path, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """ImageFolder and the notes' transforms of PIL images."""
    augmentation = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(
        ImageFolder(str(folder / "train"), augmentation),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    while True:
        yield from loader


def project(folder: Path, config: CifarConfig, size: Size) -> Way:
    """This project's epoch, cut to some batches."""
    data = load_data(folder, config)
    state = start(config, data)
    assert isinstance(data.train, SmallImages)
    some = dataclasses.replace(data.train, rows=data.train.rows[: size.batches * size.batch_size])

    def way() -> float:
        begun = time.perf_counter()
        train_epoch(state, some, config)  # ends by reading the loss back from the device
        return rate(len(some), begun, state.machine.device)

    return way


def bare(folder: Path, config: CifarConfig, size: Size) -> Way:
    """The network step alone, as fast as it can be written: nothing is loaded or logged."""
    machine = start(config, load_data(folder, config)).machine
    network = build_model(config, CLASSES).to(machine.device)
    network.to(memory_format=machine.memory_format)
    optimizer = torch.optim.SGD(
        network.parameters(),
        config.lr,
        config.momentum,
        weight_decay=config.weight_decay,
        fused=machine.device.type in ("cpu", "cuda"),
    )
    images = torch.randn(size.batch_size, 3, 32, 32, device=machine.device)
    images = images.to(memory_format=machine.memory_format)
    labels = torch.randint(CLASSES, (size.batch_size,), device=machine.device)

    def way() -> float:
        network.train()
        begun = time.perf_counter()
        for _ in range(size.batches):
            optimizer.zero_grad()
            with machine.autocast():
                loss = functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
        return rate(size.batches * size.batch_size, begun, machine.device)

    return way


def input_paths(folder: Path, config: CifarConfig, size: Size) -> dict[str, list[float]]:
    """Images a second from storage to ready batches."""
    source = load_data(folder, config).train
    loader = plain_loader(folder, size.batch_size, workers=os.cpu_count() or 1)
    for _ in loader:  # starts the workers
        pass
    ours, theirs = [], []
    for number in range(size.rounds):
        begun = time.perf_counter()
        images = sum(len(labels) for _, labels in loader)
        theirs.append(images / (time.perf_counter() - begun))
        begun = time.perf_counter()
        for epoch in range(size.input_epochs):
            for inputs, _ in source.train_batches(size.batch_size, epoch + 1, number):
                last = inputs
        ours.append(rate(size.input_epochs * len(source), begun, last.device))
    return {"input, PIL": theirs, "input, project": ours}


def concurrent(folder: Path, config: CifarConfig, size: Size) -> dict[str, list[float]]:
    """Images a second of two one-core trials together, and of one trial on two cores."""
    rates: dict[str, list[float]] = {"two trials": [], "one trial": []}
    for _ in range(max(1, size.rounds // 2 + 1)):
        rates["two trials"].append(sum(trials(folder, config, size, threads=1, count=2)))
        rates["one trial"].append(sum(trials(folder, config, size, threads=2, count=1)))
    return rates


def trials(folder: Path, config: CifarConfig, size: Size, threads: int, count: int) -> list[float]:
    """Images a second of each of `count` processes that train at the same time."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(count), spawn.Queue()
    arguments = (folder, config, size, threads, barrier, results)
    processes = [spawn.Process(target=one_trial, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    rates = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    return rates


def one_trial(
    folder: Path, config: CifarConfig, size: Size, threads: int, barrier: Barrier, results: Any
) -> None:
    """Train for some seconds with others; sends its images a second."""
    torch.set_num_threads(threads)
    way = project(folder, config, dataclasses.replace(size, batches=1))
    way()  # warms up
    barrier.wait()
    begun, batches = time.perf_counter(), 0
    while time.perf_counter() - begun < size.trial_seconds:
        way()
        batches += 1
    results.put(batches * size.batch_size / (time.perf_counter() - begun))
    barrier.wait()


def report(rates: dict[str, list[float]], config: CifarConfig, size: Size) -> None:
    """Print the machine, a line for each way, and the JSON object."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"{machine}, torch {torch.__version__}, torchvision {version('torchvision')}")
    print(f"batches of {size.batch_size}, {size.rounds} rounds, device {config.device}")
    for name, values in rates.items():
        low, high = min(values), max(values)
        print(f"  {name:18} {statistics.median(values):9.1f} images/s  ({low:.1f} to {high:.1f})")

    def ratio(one: str, other: str) -> float | None:
        if one not in rates:
            return None
        pairs = zip(rates[one], rates[other], strict=True)
        return round(statistics.median(mine / theirs for mine, theirs in pairs), 3)

    figures = {
        "vs_plain": ratio("project", "plain"),
        "vs_plain_fp32": ratio("project, float32", "plain"),
        "vs_bare": ratio("project", "bare"),
        "input_ratio": ratio("input, project", "input, PIL"),
        "two_trials": ratio("two trials", "one trial"),
        "images_per_second": {n: round(statistics.median(v), 1) for n, v in rates.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

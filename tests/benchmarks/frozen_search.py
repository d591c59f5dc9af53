"""What the feature store gains: 64 trials x 10 epochs with it and without, on real dogs.

    python -m tests.benchmarks.frozen_search [--quick]

With the store: ten views, the evaluation transform and the test images pass the backbone once, then
every trial trains the notes' head on them. Without: one epoch of one trial (training and validation
from images, all cores, the same precision) is measured and counted 640 times. Both on the same few
images, in one run, decoding excluded on both sides as the images are packed.

Memory: eight processes train at once on one store of the size of the full competition (10,222
images x 512 features x 10 views; quick: a tenth), each warmed up by a trial on other data, and then
hold all of it open. Counted is memory of their own (anonymous pages); the pages of the store, which
they share, stand beside it: over all processes they must not exceed its size.

Partly unfrozen (`fine_tuning.py`): how much faster it is with the frozen part's activations kept,
and what training the head first is worth.

The last line is one JSON object: `ratio` (the smaller of the two backbones'), `network_share` (of
the threads' wall time from the first image to the last file; the smaller), `joined_over_sum` (the
time for both networks' features joined over each one's alone, added up),
`rss_growth_mb_per_trial`, and `memory`, `backbones` and `fine_tuning` with all figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models import get_model

from tests.benchmarks import fine_tuning
from tests.benchmarks.shared import shared_data
from tests.dog_features import REAL_WEIGHTS, features_of
from tests.packed_folders import write_dogs
from trainables.config import DogBreedConfig
from trainables.data import TaskData
from trainables.device import resolve
from trainables.dog_breed import CONFIG, load_data, start, start_head
from trainables.features.files import Features, open_features, write_features
from trainables.features.source import FeatureSource, settle_precision
from trainables.features.store import EVAL, FeatureStore, Part
from trainables.features.work import feature_work as find_work
from trainables.large_images import load_large_images
from trainables.loop import fit

TRIALS, EPOCHS = 64, 10
CONCURRENT = 8
BREEDS = 120
PARTS = (EVAL, *(Part("view", number) for number in range(EPOCHS)))


@dataclass(frozen=True)
class Times:
    """Seconds, scaled to 64 trials x 10 epochs where they were not measured whole."""

    images: int
    without: float
    computing: float
    trials: float
    network_share: float

    @property
    def ratio(self) -> float:
        """How many times longer it takes without the store."""
        return self.without / (self.computing + self.trials)


def measure(folder: Path, config: DogBreedConfig, measured_trials: int) -> Times:
    """Both ways, on the images of a folder."""
    data = load_large_images(folder, config)
    without = seconds_of_epoch(data, config) * TRIALS * EPOCHS
    computing, share = compute_everything(folder, config)
    begun = time.perf_counter()
    for seed in range(measured_trials):
        train_head(folder, dataclasses.replace(config, seed=seed))
    trials = (time.perf_counter() - begun) * TRIALS / measured_trials
    return Times(len(data.train_valid) + len(data.test), without, computing, trials, share)


def seconds_of_epoch(data: TaskData, config: DogBreedConfig) -> float:
    """Of the second epoch of a trial on images: the first one warms up."""
    epochs = fit(start(config, data), data.train, data.valid, config)
    next(epochs)
    begun = time.perf_counter()
    next(epochs)
    return time.perf_counter() - begun


def compute_everything(folder: Path, config: DogBreedConfig) -> tuple[float, float]:
    """Fill the store: seconds, the loading of the network included, and the network's share."""
    begun = time.perf_counter()
    work = find_work(folder, config)
    extractor = work[0][0].extractor()
    loaded = time.perf_counter()

    def compute(store: FeatureStore, part: Part, pieces: Sequence[range]) -> Any:
        return extractor.features(store.images, lambda row: store.render(part, row), pieces)

    for store, part in work:
        list(store.fill(part, compute))
    ended = time.perf_counter()
    share = extractor.network_seconds / extractor.num_threads / (ended - loaded)
    return ended - begun, share


def joined_over_sum(folder: Path, config: DogBreedConfig, other: DogBreedConfig) -> float:
    """Seconds for the features of two joined networks over those of each alone, one after another.

    Each from an empty store. Both once more at first, unmeasured: to warm up files and libraries.
    """
    weights = ",".join(f"{each.backbone}:{each.weights}" for each in (config, other))
    both = f"{config.backbone}+{other.backbone}"
    joined = dataclasses.replace(config, backbone=both, weights=weights)
    times = []
    for each in (joined, config, other, joined):
        shutil.rmtree(folder / "features", ignore_errors=True)
        begun = time.perf_counter()
        work = find_work(folder, each)
        compute = work[0][0].local()
        for store, part in work:
            list(store.fill(part, compute))
        times.append(time.perf_counter() - begun)
    return times[3] / (times[1] + times[2])


def train_head(folder: Path, config: DogBreedConfig) -> None:
    """One trial as a search runs it: opening the store, ten epochs with validation."""
    data = load_data(folder, config)
    state = start_head(config, data, features_of(data.train).width)
    assert len(list(fit(state, data.train, data.valid, config))) == EPOCHS


@dataclass(frozen=True)
class Files:
    """In place of a FeatureStore: files of made-up features."""

    folder: Path
    count: int

    def path(self, part: Part) -> Path:
        """The part's file."""
        return self.folder / f"{part.name}.npy"

    def obtain(self, part: Part) -> Features:
        """The part, mapped."""
        features = open_features(self.path(part), self.count)
        assert features is not None
        return features

    def source(self, config: DogBreedConfig) -> FeatureSource:
        """All of it, with made-up labels."""
        rows = torch.arange(self.count)
        return FeatureSource((self,), rows % BREEDS, rows, EPOCHS, resolve(config))  # type: ignore[arg-type]


def write_store(files: Files, width: int) -> float:
    """Write ten views and the evaluation features; their size in MB."""
    random = np.random.default_rng(0)
    files.folder.mkdir()
    for part in PARTS:
        write_features(files.path(part), random.random((files.count, width), dtype=np.float32))
    return sum(files.path(part).stat().st_size for part in PARTS) / 1e6


def memory() -> dict[str, float]:
    """This process's resident memory in MB: its own pages, and its share of pages of files."""
    fields = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, amount = line.split()[:2]
        fields[name.rstrip(":")] = int(amount) / 1e3
    return {"own": fields["Anonymous"], "files": fields["Pss_File"], "all": fields["Rss"]}


def one_trial(config: DogBreedConfig, files: Files, width: int) -> None:
    """Ten epochs of a head."""
    source = files.source(config)
    data = TaskData(
        tuple(map(str, range(BREEDS))), source, source, source, source, (), (), (), (), ()
    )
    list(fit(start_head(config, data, width), source, source, config))


def concurrent_trial(
    config: DogBreedConfig, files: Files, warm: Files, width: int, barrier: Barrier, results: Any
) -> None:
    """What each of the eight processes does; sends its memory before and after."""
    torch.set_num_threads(1)
    one_trial(config, warm, width)
    before = memory()
    barrier.wait()
    one_trial(config, files, width)
    held = [files.obtain(part) for part in PARTS]  # a trial maps one at a time
    assert sum(float(features.sum()) for features in held) > 0  # touches every page
    barrier.wait()
    results.put((before, memory()))
    barrier.wait()


def measure_memory(
    folder: Path, config: DogBreedConfig, count: int, width: int
) -> dict[str, float]:
    """Of eight trials at once: what each adds, the store, and its pages that are resident."""
    files, warm = Files(folder / "full", count), Files(folder / "warm", 256)
    size = write_store(files, width)
    write_store(warm, width)
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(CONCURRENT), spawn.Queue()
    arguments = (config, files, warm, width, barrier, results)
    processes = [spawn.Process(target=concurrent_trial, args=arguments) for _ in range(CONCURRENT)]
    for process in processes:
        process.start()
    told = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    growth = [after["own"] - before["own"] for before, after in told]
    mapped = [after["files"] - before["files"] for before, after in told]
    return {
        "store_mb": size,
        "growth_mb": sum(growth) / CONCURRENT,
        "largest_growth_mb": max(growth),
        "mapped_by_all_mb": sum(mapped),
    }


def configs(folder: Path) -> dict[str, DogBreedConfig]:
    """The baseline on two backbones: real weights, and a file of random ones."""
    random = folder / "resnet34.pt"
    torch.save(get_model("resnet34", weights=None).state_dict(), random)
    weights = {"mobilenet_v2": shared_data() / REAL_WEIGHTS, "resnet34": random}
    return {
        name: settle_precision(
            dataclasses.replace(CONFIG, backbone=name, weights=str(path), num_epochs=EPOCHS)
        )
        for name, path in weights.items()
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, indicative only")
    quick = parser.parse_args().quick
    torch.manual_seed(0)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},"
        f" Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dogs = write_dogs(folder / "dogs", shared_data(), 80 if quick else 480)
        print(f"{'backbone':14} images precision   without  computing  trials   ratio  network")
        found = {}
        for backbone, config in configs(folder).items():
            times = measure(dogs, config, 8 if quick else TRIALS)
            found[backbone] = dataclasses.asdict(times) | {"ratio": times.ratio}
            print(
                f"{backbone:14} {times.images:6} {config.precision:9} {times.without:8.0f}s"
                f" {times.computing:9.1f}s {times.trials:6.1f}s {times.ratio:6.0f}x"
                f" {times.network_share:7.0%}",
                flush=True,
            )
        joined = joined_over_sum(dogs, *configs(folder).values())
        print(f"both joined: {joined:.2f} of the time that each alone takes, added up", flush=True)
        more = write_dogs(folder / "more", shared_data(), 240 if quick else 2400)
        tuned = fine_tuning.measure(more, 1 if quick else fine_tuning.SEEDS)
        config = dataclasses.replace(CONFIG, num_epochs=EPOCHS, weights="random", device="cpu")
        used = measure_memory(folder, config, 1022 if quick else 10222, 512)
    print(
        f"{CONCURRENT} trials at once: each takes {used['growth_mb']:.1f} MB of its own (most"
        f" {used['largest_growth_mb']:.1f}); of the store's {used['store_mb']:.0f} MB all of them"
        f" together hold {used['mapped_by_all_mb']:.0f} MB"
    )
    print(
        json.dumps(
            {
                "ratio": round(min(times["ratio"] for times in found.values()), 1),
                "network_share": round(min(t["network_share"] for t in found.values()), 3),
                "joined_over_sum": round(joined, 3),
                "rss_growth_mb_per_trial": round(used["growth_mb"], 2),
                "fine_tuning": tuned,
                "memory": {key: round(value, 2) for key, value in used.items()},
                "backbones": {
                    name: {key: round(value, 3) for key, value in times.items()}
                    for name, times in found.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()

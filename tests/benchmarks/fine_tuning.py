"""For frozen_search: two stages of mobilenet_v2 trained as well, on real dogs at 128 pixels.

Speed: seconds of an epoch from images over those from the frozen part's kept activations, and the
same for eight trials, with the time that it takes to compute these. Start: the validation loss
of a training whose head is random, and of one whose head was trained first, an epoch shorter,
because the features for that head cost about one epoch; both from images, nothing stored before.

Validation loss of the smaller of weights and average, seeds 0, 1, 2, on all shared dogs (1,800 to
train on, 600 to validate on), both from images on two cores, with the seconds of all of it:

    random head, 6 epochs          1.655  1.661  1.653     53, 52 and 56 s
    head first, then 5 epochs      1.496  1.472  1.416     53, 49 and 56 s

An epoch takes 8.4 s from images and 1.52 s from kept activations (5.5x), eight trials of six epochs
with the 38 s that computing these takes 3.7x; the losses of seed 0 are equal to seven digits.

A random head does best at lr 0.03 and 0.1 of that for the stages, among the rates tried with seed 0
(lr 0.01 and 1: 2.24; 0.1 and 0.1: 1.76), and the head first is better at each: 1.60 at the former.
At lr 0.1 the head alone diverges: features of 128 pixels have a mean squared norm of 3,100, and the
start is then worse than a random one (3.10).
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.shared import shared_data
from tests.dog_features import REAL_WEIGHTS
from trainables.config import DogBreedConfig
from trainables.dog_breed import CONFIG, load_data, start
from trainables.features.work import feature_work
from trainables.loop import fit

TRIALS, EPOCHS, HEAD_EPOCHS = 8, 6, 10
SEEDS = 3


def config(**changes: Any) -> DogBreedConfig:
    """A plain linear head; of the rates that were tried a random head does best with these."""
    found = dataclasses.replace(
        CONFIG,
        backbone="mobilenet_v2",
        weights=str(shared_data() / REAL_WEIGHTS),
        unfreeze=2,
        image_size=128,
        precision="float32",
        hidden=0,
        lr=0.03,
        backbone_lr=0.1,
        schedule="cosine",
        num_epochs=EPOCHS,
        cache_prefix="none",
    )
    return dataclasses.replace(found, **changes)


def train(folder: Path, settings: DogBreedConfig) -> tuple[float, float, float]:
    """Validation loss at the end, seconds in all, and of the fastest epoch but the first."""
    begun = time.perf_counter()
    data = load_data(folder, settings)
    epochs = list(fit(start(settings, data), data.train, data.valid, settings, "valid_loss"))
    seconds = time.perf_counter() - begun
    return epochs[-1]["valid_loss"], seconds, min(row["seconds"] for row in epochs[1:])


def measure(folder: Path, seeds: int = SEEDS) -> dict[str, Any]:
    """Print both tables; what the JSON line says of them."""
    rows: dict[str, list[tuple[float, float, float]]] = {"random": [], "first": []}
    for seed in range(seeds):
        shutil.rmtree(folder / "features", ignore_errors=True)
        rows["random"].append(train(folder, config(seed=seed)))
        first = config(seed=seed, head_epochs=HEAD_EPOCHS, num_epochs=EPOCHS - 1)
        rows["first"].append(train(folder, first))
    for name, found in rows.items():
        losses = " ".join(f"{loss:.4f}" for loss, _, _ in found)
        told = " ".join(f"{seconds:.0f}" for _, seconds, _ in found)
        print(f"unfreeze=2, head {name:6}: valid loss {losses}, {told} s", flush=True)
    kept = config(cache_prefix="auto")
    begun = time.perf_counter()
    work = feature_work(folder, kept)
    compute = work[0][0].local()
    for store, part in work:
        list(store.fill(part, compute))
    computing = time.perf_counter() - begun
    from_images, from_kept = rows["random"][0], train(folder, kept)
    ratio = from_images[2] / from_kept[2]
    whole = TRIALS * from_images[1] / (computing + TRIALS * from_kept[1])
    print(
        f"unfreeze=2: an epoch from images {from_images[2]:.1f} s, from kept activations"
        f" {from_kept[2]:.2f} s: {ratio:.1f}x; {TRIALS} trials x {EPOCHS} epochs {whole:.1f}x,"
        f" {computing:.0f} s to compute them; losses {from_images[0]:.6f} and {from_kept[0]:.6f}"
    )
    return {
        "epoch_ratio": round(ratio, 2),
        "trials_ratio": round(whole, 2),
        "computing": round(computing, 1),
        "loss": [round(from_images[0], 7), round(from_kept[0], 7)],
        "random_head": [round(loss, 4) for loss, _, _ in rows["random"]],
        "head_first": [round(loss, 4) for loss, _, _ in rows["first"]],
        "seconds": {name: [round(s, 1) for _, s, _ in found] for name, found in rows.items()},
    }

"""Synthetic searches in the ledger's format: for the tests of tables, live view and report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from PIL import Image

from search.records.ledger import LEDGER, read_events
from search.records.manifest import Condition, DataEntry, KnobEntry, Manifest, write_manifest
from search.records.sealed import seal

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-3, 0.5, log=True),
    "momentum": FloatDistribution(0.8, 0.99),
    "weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
    "batch_size": CategoricalDistribution([32, 64, 128]),
    "label_smoothing": FloatDistribution(0.0, 0.2),
    "schedule": CategoricalDistribution(["constant", "cosine", "step"]),
    "lr_period": IntDistribution(2, 15),
}
BASELINE_CONFIG: dict[str, Any] = {
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 64,
    "label_smoothing": 0.0,
    "schedule": "step",
    "lr_period": 10,
    "nesterov": False,
    "seed": 0,
}
CAVEAT = "the dogs are a subset of ImageNet: an ImageNet backbone has seen many of these images"


def make_search(
    folder: Path,
    *,
    trials: int = 40,
    epochs: int = 9,
    metric: str = "valid_acc",
    status: str = "finished",
    seed: int = 0,
    info: Mapping[str, Any] | None = None,
    chances: Sequence[float] = (0.25, 0.6, 0.06, 0.06, 0.03),
) -> Path:
    """A search directory with completed, stopped, failed, diverged and lost trials.

    The score depends on `lr` most, on `momentum` a little, and on nothing else. `chances` are
    those of FATES; a good one that should be stopped completes.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    mode: Literal["min", "max"] = "max" if metric == "valid_acc" else "min"
    described = describe(folder, trials, epochs, metric, mode, status)
    write_manifest(folder, described.model_copy(update=dict(info or {})))
    clock = 1_790_000_000.0
    events: list[dict[str, Any]] = [{"event": "session", "time": clock, "num_samples": trials}]
    for number in range(trials):
        config = BASELINE_CONFIG if number == 0 else sample(rng)
        events += trial_events(f"t{number:04d}", config, clock + 1.0, epochs, rng, chances)
        clock = events[-1]["time"]
    lines = [seal(event, number) for number, event in enumerate(events, start=1)]
    (folder / LEDGER).write_text("".join(lines), encoding="utf-8")
    return folder


def describe(
    folder: Path, trials: int, epochs: int, metric: str, mode: Literal["min", "max"], status: str
) -> Manifest:
    """What search.json holds."""
    condition = Condition(parameter="schedule", values=("step",))
    space = {
        name: KnobEntry(
            distribution=distribution_to_json(distribution),
            when=condition if name == "lr_period" else None,
        )
        for name, distribution in SPACE.items()
    }
    data = DataEntry(
        root=str(folder.parent / "data"),
        fingerprint="0123456789abcdef",
        classes=("cat", "dog", "ship"),
        train=900,
        valid=100,
        test=50,
    )
    return Manifest(
        task=folder.parent.name,
        name=folder.name,
        metric=metric,
        mode=mode,
        space=space,
        baseline=BASELINE_CONFIG,
        num_samples=trials,
        num_epochs=epochs,
        seed=0,
        sampler="tpe",
        scheduler="promoting",
        grace_period=1,
        reduction_factor=3,
        data=data,
        versions={"python": "3.11.2", "torch": "2.14.1", "ray": "2.60.0", "optuna": "5.0.0"},
        git_commit="0123456789abcdef0123456789abcdef01234567",
        command=("resnet-tune", "search", "digits"),
        start="2026-09-21T13:33:20+00:00",
        end="2026-09-21T14:33:20+00:00" if status == "finished" else None,
        status=status,
        caveat=CAVEAT,
    )


def sample(rng: np.random.Generator) -> dict[str, Any]:
    """A random configuration."""
    return {
        **BASELINE_CONFIG,
        "lr": float(np.exp(rng.uniform(math.log(1e-3), math.log(0.5)))),
        "momentum": float(rng.uniform(0.8, 0.99)),
        "weight_decay": float(np.exp(rng.uniform(math.log(1e-5), math.log(1e-2)))),
        "batch_size": int(rng.choice([32, 64, 128])),
        "label_smoothing": float(rng.uniform(0.0, 0.2)),
        "schedule": str(rng.choice(["constant", "cosine", "step"])),
        "lr_period": int(rng.integers(2, 16)),
    }


def trial_events(
    trial_id: str,
    config: dict[str, Any],
    clock: float,
    epochs: int,
    rng: np.random.Generator,
    chances: Sequence[float],
) -> list[dict[str, Any]]:
    """One trial from start to end (no end: its driver was killed)."""
    quality = 1 - 0.25 * abs(math.log10(config["lr"] / 0.1)) - 0.8 * abs(config["momentum"] - 0.9)
    fate = "completed" if trial_id == "t0000" else str(rng.choice(FATES, p=chances))
    last = {"completed": epochs, "stopped": int(rng.choice([1, 3]))}.get(fate, 2)
    if fate == "stopped" and quality > 0.9:
        fate, last = "completed", epochs
    start = {"event": "start", "trial": trial_id, "time": clock, "config": config}
    events: list[dict[str, Any]] = [
        {**start, "origin": "baseline" if trial_id == "t0000" else "sampler"}
    ]
    for epoch in range(1, min(last, epochs) + 1):
        clock += 2.0
        accuracy = quality * (1 - math.exp(-epoch / 2)) + float(rng.normal(0, 0.01))
        loss = math.nan if fate == "diverged" and epoch == last else 2.5 * (1 - accuracy) + 0.05
        metrics = {
            "epoch": epoch,
            "train_loss": loss * 0.8,
            "valid_loss": loss,
            "valid_acc": round(min(max(accuracy, 0.0), 1.0), 4),
            "lr": config["lr"],
            "seconds": 2.0,
        }
        events.append({"event": "report", "trial": trial_id, "time": clock, "metrics": metrics})
    if fate != "lost":
        error = ERROR if fate == "failed" else None
        events.append(
            {"event": "end", "trial": trial_id, "time": clock, "status": fate, "error": error}
        )
    return events


FATES = ["completed", "stopped", "failed", "diverged", "lost"]
ERROR = "RuntimeError: out of memory, tried to allocate 2.00 GiB"


def save_verdicts(
    search_dir: Path, root: Path, classes: list[str], images: int = 200, seed: int = 0
) -> None:
    """What `retrain` leaves of `valid`: predictions, mostly right, and the images."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(classes), size=images)
    logits = rng.normal(0, 1, (images, len(classes)))
    logits[np.arange(images), labels] += rng.choice([4.0, 1.0], images)
    odds = np.exp(logits)
    ids = [f"image{number:05d}" for number in range(images)]
    (search_dir / "retrain").mkdir(exist_ok=True)
    np.savez_compressed(
        search_dir / "retrain" / "valid_predictions.npz",
        ids=np.array(ids),
        labels=labels,
        probabilities=(odds / odds.sum(axis=1, keepdims=True)).astype(np.float32),
        classes=np.array(classes),
    )
    for image_id, number in zip(ids, labels, strict=True):
        file = root / "valid" / classes[number] / f"{image_id}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(file)


def most_at_once(search_dir: Path) -> int:
    """The largest number of trials between their start and their end."""
    running, most = 0, 0
    for event in read_events(search_dir / LEDGER):
        running += {"start": 1, "end": -1}.get(event["event"], 0)
        most = max(most, running)
    return most

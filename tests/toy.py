"""A study whose trials report a synthetic learning curve, for tests of everything around training.

`quality` is the accuracy a trial tends to; `fault` happens at epoch 2 of a trial whose `quality`
lies below `fault_below`. The checkpoint holds the epoch, and each start appends a line to `trace`.

Nothing here imports torch: it is half of what a worker's start costs, and a test run has hundreds.
"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution
from pydantic.dataclasses import dataclass
from ray import tune

from data_prep.digits import LAYOUT
from search.study.study import Study
from trainables.config import TrainConfig


@dataclass(frozen=True)
class ToyConfig(TrainConfig):
    quality: float = 0.5
    fault: str = ""
    fault_below: float = 0.0
    epoch_seconds: float = 0.0
    trace: str = ""
    checkpoint_bytes: int = 0
    reads_data: bool = False


CONFIG = ToyConfig(num_epochs=9)
IMAGES = 20
OUTCOMES_FILE = "outcomes.npz"  # trainables.outcomes would import torch
BROKEN = "TOY_PROCESS_IS_BROKEN"


def trainable(
    config: dict[str, Any],
    *,
    data_dir: str,
    checkpoint_epochs: Sequence[int] = (),
    checkpoint_seconds: float = 60.0,
) -> None:
    """Report `quality * (1 - exp(-epoch / 3))` as the accuracy."""
    knobs = ToyConfig(**{key: value for key, value in config.items() if not key.startswith("_")})
    if BROKEN in os.environ:  # by an earlier trial of this process
        raise RuntimeError("CUDA error: device-side assert triggered")
    if knobs.reads_data:
        np.load(Path(data_dir, "packed", "train_valid.npy"), mmap_mode="r")
    first = 1 + resume_epoch(config)
    if knobs.trace:
        with Path(knobs.trace).open("a") as trace:
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
            trace.write(f"{config['_trial_id']} {first} {os.getpid()} gpus={gpus}\n")
        if knobs.fault == "secret":
            token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            Path(knobs.trace).with_suffix(".token").write_text(token.read_text())
    for epoch in range(first, knobs.num_epochs + 1):
        time.sleep(knobs.epoch_seconds)
        accuracy = knobs.quality * (1 - math.exp(-epoch / 3))
        loss = 1 - accuracy
        fits = knobs.fault == "gpu_oom" and config["_alone"] and knobs.quality > 0.1
        if epoch == 2 and knobs.quality < knobs.fault_below and not fits:
            loss = hurt(knobs.fault, loss)
        metrics = {
            "epoch": epoch,
            "train_loss": loss,
            "valid_loss": loss,
            "valid_acc": accuracy,
            "lr": knobs.lr,
            "seconds": knobs.epoch_seconds,
        }
        try:
            due = epoch in checkpoint_epochs or epoch == knobs.num_epochs
            report(metrics, knobs.checkpoint_bytes if due else None)
        except SystemExit:  # the process is wanted for another trial
            if knobs.fault == "kill_reused" and knobs.quality < knobs.fault_below:
                os.kill(os.getpid(), signal.SIGKILL)
            raise
        if not math.isfinite(loss):
            return


def report(metrics: dict[str, Any], size: int | None) -> None:
    """Report an epoch; unless `size` is None, with a checkpoint of its number and so many bytes."""
    if size is None:
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "weights.bin").write_bytes(bytes(size))
        Path(folder, "state.json").write_text(json.dumps({"epoch": metrics["epoch"]}))
        save_outcomes(Path(folder), metrics)
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def save_outcomes(folder: Path, metrics: dict[str, Any]) -> None:
    """As a real trial does, of IMAGES images: the n-th is right where the accuracy reaches it."""
    right = np.arange(1, IMAGES + 1) <= IMAGES * metrics["valid_acc"]
    losses = np.full(IMAGES, metrics["valid_loss"], dtype=np.float32)
    found = {"epoch": metrics["epoch"], "value": metrics["valid_acc"]}
    np.savez(folder / OUTCOMES_FILE, **found, losses=losses, correct=right)


def resume_epoch(config: dict[str, Any]) -> int:
    """The epoch of the checkpoint to go on from, 0 without one."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is None and config.get("_resume_from"):
        checkpoint = tune.Checkpoint(config["_resume_from"])
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        text = Path(folder, "state.json").read_text()
    try:
        return int(json.loads(text)["epoch"])
    except ValueError:
        from trainables.state import CheckpointError  # here: it imports torch

        raise CheckpointError(f"checkpoint {folder} cannot be used") from None


def hurt(fault: str, loss: float) -> float:
    """Make a fault happen in the worker."""
    if fault == "nan":
        return math.nan
    if fault == "exception":
        raise RuntimeError('a <script> "quoted", comma,\nand a second line; schön')
    if fault == "secret":
        key = os.environ["WANDB_API_KEY"]
        raise RuntimeError(f"https://me:{key}@host/x?sig={key} says no; {key}")
    if fault == "storage":
        raise OSError(errno.ENOSPC, "No space left on device")
    if fault == "breaks":
        os.environ[BROKEN] = "1"
    if fault == "assert":
        os.environ[BROKEN] = "1"
        raise RuntimeError("CUDA error: device-side assert triggered")
    if fault == "oom":
        raise MemoryError("out of memory: 9 GiB wanted")
    if fault == "gpu_oom":
        import torch  # here, and not above: see there

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if fault == "hang":
        time.sleep(3600)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


STUDY = Study(
    task="toy",
    layout=LAYOUT,
    trainables=sys.modules[__name__],
    config=CONFIG,
    space={
        "quality": FloatDistribution(0.0, 1.0),
        "lr": FloatDistribution(1e-3, 1.0, log=True),
    },
    submission="label",
    num_samples=12,
    grace_period=1,
    reduction_factor=3,
)

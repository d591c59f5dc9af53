"""The training loop: a generator of each epoch's metrics, for search, retraining, tests, debugger.

Inside an epoch nothing is read back from an accelerator: losses add up on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import TrainConfig
from trainables.data import Source
from trainables.device import resolve
from trainables.schedule import learning_rate
from trainables.state import TrainState as TrainState
from trainables.state import seeded

Metrics = dict[str, float]


def fit(
    state: TrainState, train: Source, valid: Source | None, config: TrainConfig
) -> Iterator[Metrics]:
    """Train from `state.epoch` to `config.num_epochs`; yield the metrics of each epoch.

    Keys: epoch (from 1), train_loss (mean over the images, as they were met in training),
    valid_loss (plain cross-entropy), valid_acc (0 to 1), lr (at the epoch's start), seconds (with
    validation). Without `valid` its keys are absent. When a loss is not finite, that epoch is the
    last.
    """
    while state.epoch < config.num_epochs:
        begun = time.perf_counter()
        epoch = state.epoch + 1
        lr = learning_rate(config, state.epoch)
        metrics: Metrics = {"epoch": epoch, "train_loss": train_epoch(state, train, config)}
        finite = math.isfinite(metrics["train_loss"])
        if valid is not None:
            nothing = {"valid_loss": math.nan, "valid_acc": math.nan}
            metrics |= evaluate(state.model, valid, config) if finite else nothing
        state.epoch = epoch
        yield metrics | {"lr": lr, "seconds": time.perf_counter() - begun}
        if not finite or not math.isfinite(metrics.get("valid_loss", 0.0)):
            return


def train_epoch(state: TrainState, train: Source, config: TrainConfig) -> float:
    """One pass over the images; the mean loss. A CPU stops at the first that is not finite."""
    state.network.train()
    num_batches = math.ceil(len(train) / config.batch_size)
    average_from = config.num_epochs * (1 - config.weight_average)
    total = torch.zeros((), device=state.machine.device)
    with seeded(state.machine, config.seed, state.epoch + 1):
        batches = train.train_batches(config.batch_size, state.epoch + 1, config.seed)
        for number, (inputs, labels) in enumerate(batches):
            set_learning_rate(state, learning_rate(config, state.epoch + number / num_batches))
            loss = train_step(state, inputs, labels, config.label_smoothing)
            total += loss * len(labels)
            if config.weight_average and state.epoch + (number + 1) / num_batches > average_from:
                state.update_average()
            if state.machine.device.type == "cpu" and not math.isfinite(loss.item()):
                break
    return total.item() / len(train)


def train_step(state: TrainState, inputs: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """One step of the optimizer; the batch's mean loss, on the device."""
    state.optimizer.zero_grad(set_to_none=True)
    with state.machine.autocast():
        logits = state.network(inputs)
        loss = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return loss.detach()


def set_learning_rate(state: TrainState, lr: float) -> None:
    """For the next step."""
    for group in state.optimizer.param_groups:
        group["lr"] = lr


@torch.inference_mode()
def evaluate(model: nn.Module, source: Source, config: TrainConfig) -> Metrics:
    """valid_loss (cross-entropy without smoothing) and valid_acc (0 to 1) over the source."""
    model.eval()
    machine = resolve(config)
    loss = torch.zeros((), device=machine.device)
    correct = torch.zeros((), device=machine.device, dtype=torch.int64)
    for inputs, labels in source.eval_batches(config.eval_batch_size):
        with machine.autocast():
            logits = model(inputs)
        loss += functional.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return {
        "valid_loss": loss.item() / len(source),
        "valid_acc": correct.item() / len(source),
    }


@torch.inference_mode()
def predict(model: nn.Module, source: Source, config: TrainConfig) -> Tensor:
    """Softmax probabilities of all images: float32 (N, C) on the CPU; (0, 0) without images.

    With `config.flip_average`, the mean over image and mirror image.
    """
    model.eval()
    probabilities = one_prediction(model, source, config, mirrored=False)
    if config.flip_average:
        probabilities += one_prediction(model, source, config, mirrored=True)
        probabilities /= 2
    return probabilities


def one_prediction(model: nn.Module, source: Source, config: TrainConfig, mirrored: bool) -> Tensor:
    """As `predict`, of the images or of their mirror images."""
    machine = resolve(config)
    parts = []
    for inputs, _ in source.eval_batches(config.eval_batch_size, mirrored):
        with machine.autocast():
            logits = model(inputs)
        parts.append(logits.float().softmax(1))
    return torch.cat(parts).cpu() if parts else torch.zeros(0, 0)


def describe(state: TrainState) -> dict[str, str | int]:
    """How a trial computes, for the records."""
    return {
        "device": str(state.machine.device),
        "precision": str(state.machine.precision).removeprefix("torch."),
        "threads": state.machine.threads,
        "num_parameters": sum(p.numel() for p in state.network.parameters() if p.requires_grad),
    }

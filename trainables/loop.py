"""The training loop: a generator of each epoch's metrics, for search, retraining, tests, debugger.

Inside an epoch nothing is read back from an accelerator: losses add up on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import TrainConfig
from trainables.data import CENTRE, MIRRORED, Source
from trainables.device import resolve
from trainables.outcomes import Outcomes
from trainables.schedule import learning_rate
from trainables.state import TrainState as TrainState
from trainables.state import seeded
from trainables.step import stepper

Metrics = dict[str, float]


def fit(
    state: TrainState,
    train: Source,
    valid: Source | None,
    config: TrainConfig,
    metric: str = "valid_acc",
) -> Iterator[Metrics]:
    """Train from `state.epoch` to `config.num_epochs`; yield the metrics of each epoch.

    Keys: epoch (from 1), train_loss (mean over the images, as they were met in training), those of
    `validate`, lr (at the epoch's start), seconds (with validation). Without `valid` its keys are
    absent. When a loss is not finite, that epoch is the last.
    """
    while state.epoch < config.num_epochs:
        begun = time.perf_counter()
        if state.epoch == 0 and state.begin is not None:
            state.begin(state, train)
        epoch = state.epoch + 1
        lr = learning_rate(config, state.epoch)
        metrics: Metrics = {"epoch": epoch, "train_loss": train_epoch(state, train, config)}
        finite = math.isfinite(metrics["train_loss"])
        if valid is not None:
            nothing = {"valid_loss": math.nan, "valid_acc": math.nan}
            metrics |= validate(state, valid, config, metric) if finite else nothing
        state.epoch = epoch
        yield metrics | {"lr": lr, "seconds": time.perf_counter() - begun}
        if not finite or not math.isfinite(metrics.get("valid_loss", 0.0)):
            return


def train_epoch(state: TrainState, train: Source, config: TrainConfig) -> float:
    """One pass over the images; the mean loss. A CPU stops at the first that is not finite."""
    state.network.train()
    num_batches = math.ceil(len(train) / config.batch_size)
    total = torch.zeros((), device=state.machine.device)
    step = stepper(state, config)
    with seeded(state.machine, config.seed, state.epoch + 1):
        batches = train.train_batches(config.batch_size, state.epoch + 1, config.seed)
        for number, (inputs, labels) in enumerate(batches):
            set_learning_rate(state, learning_rate(config, state.epoch + number / num_batches))
            loss = step(inputs, labels)
            total += loss * len(labels)
            state.update_average(num_batches)
            if state.machine.device.type == "cpu" and not math.isfinite(loss.item()):
                break
    return total.item() / len(train)


def set_learning_rate(state: TrainState, lr: float) -> None:
    """For the next step."""
    for group in state.optimizer.param_groups:
        own = lr * group.get("lr_factor", 1.0)  # checkpoints of earlier versions have none
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def validate(state: TrainState, valid: Source, config: TrainConfig, metric: str) -> Metrics:
    """Two looks at a training, by its weights and by their moving average.

    weights_valid_loss, weights_valid_acc: of the weights, as every loop has them.
    average_valid_loss, average_valid_acc: of the average; absent where its loss is not finite.
    valid_loss, valid_acc: of the better of both by `metric`, which is the model from here on, and
        what the trial is judged by; `averaged` is 1 where that is the average, else 0.
    """
    assert state.average is not None
    models = [state.network, state.average.model]
    (weights, by_weights), (average, by_average) = evaluate_all(models, valid, config)
    state.averaged = is_better(average, weights, metric)
    state.outcomes = by_average if state.averaged else by_weights
    found = dict(average if state.averaged else weights)
    found |= {f"weights_{name}": value for name, value in weights.items()}
    if math.isfinite(average["valid_loss"]):
        found |= {f"average_{name}": value for name, value in average.items()}
    return found | {"averaged": float(state.averaged)}


def is_better(average: Metrics, weights: Metrics, metric: str) -> bool:
    """Whether the average is no worse than the weights; the loss decides between two equals."""
    if not math.isfinite(average["valid_loss"] + weights["valid_loss"]):
        return False
    sign = -1 if metric.endswith("_loss") else 1

    def rank(found: Metrics) -> tuple[float, float]:
        return sign * found[metric], -found["valid_loss"]

    return rank(average) >= rank(weights)


def evaluate(model: nn.Module, source: Source, config: TrainConfig) -> Metrics:
    """valid_loss (cross-entropy without smoothing) and valid_acc (0 to 1) over the source."""
    return evaluate_all([model], source, config)[0][0]


@torch.inference_mode()
def evaluate_all(
    models: Sequence[nn.Module], source: Source, config: TrainConfig
) -> list[tuple[Metrics, Outcomes]]:
    """As `evaluate`, of several models in one pass over the source, and of each image."""
    machine = resolve(config)
    loss = torch.zeros(len(models), device=machine.device)
    losses: list[list[Tensor]] = [[] for _ in models]
    correct: list[list[Tensor]] = [[] for _ in models]
    kept: list[list[Tensor]] = [[] for _ in models]
    truth: list[Tensor] = []
    for model in models:
        model.eval()
    for inputs, labels in source.eval_batches(config.eval_batch_size):
        for number, model in enumerate(models):
            with machine.autocast():
                logits = model(inputs)
            loss[number] += functional.cross_entropy(logits.float(), labels, reduction="sum")
            losses[number].append(
                functional.cross_entropy(logits.float(), labels, reduction="none")
            )
            correct[number].append(logits.argmax(1) == labels)
            kept[number] += [logits.float()] if config.num_folds else []
        truth.append(labels)
    outcomes = [Outcomes(torch.cat(a), torch.cat(b)) for a, b in zip(losses, correct, strict=True)]
    if config.num_folds:
        found = zip(outcomes, kept, strict=True)
        labels = torch.cat(truth)
        outcomes = [replace(o, logits=torch.cat(parts), labels=labels) for o, parts in found]
    right = torch.stack([outcome.correct.sum() for outcome in outcomes]).tolist()
    return [
        ({"valid_loss": total / len(source), "valid_acc": hits / len(source)}, outcome)
        for total, hits, outcome in zip(loss.tolist(), right, outcomes, strict=True)
    ]


@torch.inference_mode()
def predict(
    model: nn.Module, source: Source, config: TrainConfig, looks: Sequence[str] | None = None
) -> Tensor:
    """Softmax probabilities of all images: float32 (N, C) on the CPU; (0, 0) without images.

    The mean over the image as it is and these other looks at it; None: over its mirror image where
    `config.flip_average` says so.
    """
    if looks is None:
        looks = (MIRRORED,) if config.flip_average else ()
    probabilities = look_logits(model, source, config).softmax(1)
    for look in looks:
        probabilities += look_logits(model, source, config, look).softmax(1)
    return probabilities / (1 + len(looks))


@torch.inference_mode()
def look_logits(
    model: nn.Module, source: Source, config: TrainConfig, look: str = CENTRE
) -> Tensor:
    """float32 (N, C) on the CPU; (0, 0) without images."""
    model.eval()
    machine = resolve(config)
    parts = []
    for inputs, _ in source.eval_batches(config.eval_batch_size, look):
        with machine.autocast():
            logits = model(inputs)
        parts.append(logits.float())
    return torch.cat(parts).cpu() if parts else torch.zeros(0, 0)


def describe(state: TrainState) -> dict[str, str | int]:
    """How a trial computes, for the records."""
    return {
        "device": str(state.machine.device),
        "precision": str(state.machine.precision).removeprefix("torch."),
        "threads": state.machine.threads,
        "num_parameters": sum(p.numel() for p in state.network.parameters() if p.requires_grad),
    }

"""All that a training has reached: saved, loaded and gone on with exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.average import MovingAverage, load_trained, trained_tensors
from trainables.config import TrainConfig
from trainables.data import Source, stream_seed
from trainables.device import Machine, prepare, resolve
from trainables.files import replacing
from trainables.outcomes import Outcomes

VERSION = 2  # of the file


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or another model's: no fault of the configuration."""


@dataclass
class TrainState:
    """A training after `epoch` epochs.

    Learning rate, order, augmentation and dropout are functions of the configuration and the epoch,
    so there is no state of a schedule or a random generator to keep.
    """

    network: nn.Module
    """Being trained."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Loss scaling, in float16 only."""
    machine: Machine
    epoch: int = 0
    average: MovingAverage | None = None
    """Of `network`; None before the first step."""
    averaged: bool = False
    """Whether `model` is the average: as the last validation says, or whoever trains without."""
    step: Callable[[Tensor, Tensor], Tensor] | None = None
    """What does the steps where that holds tensors of its own (step.py)."""
    outcomes: Outcomes | None = None
    """What `model` made of each image at the last validation."""
    begin: Callable[[TrainState, Source], None] | None = None
    """What comes before the first epoch, on the images that will be trained on."""

    @property
    def model(self) -> nn.Module:
        """What to save and to predict with: the better of the weights and their average."""
        if self.averaged and self.average is not None:
            return self.average.model
        return self.network

    def save(self, path: Path) -> None:
        """Write all that training changes (no frozen weights) to one file, whole or not at all."""
        record = {
            "version": VERSION,
            "epoch": self.epoch,
            "network": trained_tensors(self.network),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else trained_tensors(self.average.model),
            "average_steps": 0 if self.average is None else self.average.steps,
            "averaged": self.averaged,
        }
        with replacing(path) as aside:
            torch.save(record, aside)

    def load(self, path: Path) -> None:
        """Take up what `save` wrote. Raises CheckpointError for a damaged file, another model's."""
        try:
            record = torch.load(path, map_location=self.machine.device, weights_only=True)
            if record["version"] == 1:  # of 0.1.0: `averaged` steps, or none, in the average
                steps, has_average = record["averaged"], record["average"] is not None
                record |= {"average_steps": steps, "averaged": has_average}
            elif record["version"] != VERSION:
                raise ValueError(f"version {record['version']}, not {VERSION}")
            load_trained(self.network, record["network"])
            rates = [group["lr"] for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(record["optimizer"])
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # a number or a tensor, as this device wants it
            self.step = None
            self.scaler.load_state_dict(record["scaler"])
            self.average, self.averaged = None, record["averaged"]
            if record["average"] is not None:
                self.average = MovingAverage(self.network)
                self.average.steps = record["average_steps"]
                load_trained(self.average.model, record["average"])
            self.epoch = record["epoch"]
        except Exception as error:  # torch.load and load_state_dict raise many types
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise CheckpointError(f"checkpoint {path} cannot be used: {reason}") from None

    def update_average(self, steps_per_epoch: int) -> None:
        """After a step of the optimizer: bring the average up to date."""
        self.average = self.average or MovingAverage(self.network)
        self.average.update(steps_per_epoch)


def new_state(
    build: Callable[[], nn.Module], config: TrainConfig, rates: Mapping[str, float] | None = None
) -> TrainState:
    """A training that is about to begin; `build` makes the network with the seed's random weights.

    `rates`: factors on the learning rate of all parameters whose names begin so. Whatever an
    earlier trial left in this process has no influence.
    """
    machine = resolve(config)
    prepare(machine)
    with seeded(machine, config.seed, 0):
        network = build()
    network.to(machine.device, memory_format=machine.memory_format)  # type: ignore[call-overload]
    scaling = machine.precision == torch.float16
    scaler = torch.amp.GradScaler(machine.device.type, enabled=scaling)
    optimizer = make_optimizer(network, config, machine, rates)
    return TrainState(network, optimizer, scaler, machine)


def make_optimizer(
    network: nn.Module,
    config: TrainConfig,
    machine: Machine,
    rates: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """SGD on the parameters that require gradients; `rates` as in `new_state`."""
    apart = config.exclude_norm_decay or config.bias_lr != 1
    decay = 0.0 if config.exclude_norm_decay else config.weight_decay / config.bias_lr
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            own = (rate for start, rate in (rates or {}).items() if name.startswith(start))
            factor = next(own, 1.0)
            thin = apart and parameter.ndim <= 1
            found.setdefault((factor, thin), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr_factor": factor * config.bias_lr, "weight_decay": decay}
        if thin
        else {"params": parameters, "lr_factor": factor}
        for (factor, thin), parameters in sorted(found.items(), key=lambda item: item[0])
    ]

    def rate() -> float | Tensor:
        """A graph reads it from the device; each group has its own."""
        return torch.tensor(config.lr, device=machine.device) if machine.graphs else config.lr

    return torch.optim.SGD(
        [group | {"lr": rate()} for group in groups],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
        fused=machine.device.type in ("cpu", "cuda"),
    )


@contextmanager
def seeded(machine: Machine, seed: int, epoch: int) -> Iterator[None]:
    """Give torch's global generators (initial weights, dropout) the numbers of this epoch.

    Afterwards they are as before: nothing else in the process is disturbed.
    """
    devices = [machine.device] if machine.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream_seed(seed, epoch, "torch"))
        yield

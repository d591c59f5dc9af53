"""All that a training has reached: saved, loaded and gone on with exactly."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn

from trainables.config import TrainConfig
from trainables.data import stream_seed
from trainables.device import Machine, prepare, resolve

VERSION = 1  # of the file


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
    average: nn.Module | None = None
    """Mean of the network's weights over the last `averaged` steps; None before the first."""
    averaged: int = 0

    @property
    def model(self) -> nn.Module:
        """What to evaluate, save and predict with: the average where there is one."""
        return self.network if self.average is None else self.average

    def save(self, path: Path) -> None:
        """Write all that training changes (no frozen weights) to one file, whole or not at all."""
        record = {
            "version": VERSION,
            "epoch": self.epoch,
            "network": trained_tensors(self.network),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else trained_tensors(self.average),
            "averaged": self.averaged,
        }
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            torch.save(record, aside)
            os.replace(aside, path)
        finally:
            Path(aside).unlink(missing_ok=True)

    def load(self, path: Path) -> None:
        """Take up what `save` wrote. Raises ValueError for a damaged file or another model's."""
        try:
            record = torch.load(path, map_location=self.machine.device, weights_only=True)
            if record["version"] != VERSION:
                raise ValueError(f"version {record['version']}, not {VERSION}")
            load_trained(self.network, record["network"])
            self.optimizer.load_state_dict(record["optimizer"])
            self.scaler.load_state_dict(record["scaler"])
            self.average, self.averaged = None, record["averaged"]
            if record["average"] is not None:
                self.average = shadow(self.network)
                load_trained(self.average, record["average"])
            self.epoch = record["epoch"]
        except Exception as error:  # torch.load and load_state_dict raise many types
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ValueError(f"checkpoint {path} cannot be used: {reason}") from None

    def update_average(self) -> None:
        """Add the present weights, and the running statistics of BatchNorm, to the average."""
        if self.average is None:
            self.average = shadow(self.network)
        else:
            mean, now = trained_tensors(self.average), trained_tensors(self.network)
            numbers = [name for name in now if now[name].is_floating_point()]
            update = get_swa_multi_avg_fn()
            update([mean[n] for n in numbers], [now[n] for n in numbers], self.averaged)
        self.averaged += 1


def new_state(build: Callable[[], nn.Module], config: TrainConfig) -> TrainState:
    """A training that is about to begin; `build` makes the network with the seed's random weights.

    Whatever an earlier trial left in this process has no influence.
    """
    machine = resolve(config)
    prepare(machine)
    with seeded(machine, config.seed, 0):
        network = build()
    network.to(machine.device, memory_format=machine.memory_format)  # type: ignore[call-overload]
    scaling = machine.precision == torch.float16
    scaler = torch.amp.GradScaler(machine.device.type, enabled=scaling)
    return TrainState(network, make_optimizer(network, config, machine), scaler, machine)


def make_optimizer(
    network: nn.Module, config: TrainConfig, machine: Machine
) -> torch.optim.Optimizer:
    """SGD on the parameters that require gradients."""
    trained = [p for p in network.parameters() if p.requires_grad]
    spared = [p for p in trained if config.exclude_norm_decay and p.ndim <= 1]
    decayed = [p for p in trained if not (config.exclude_norm_decay and p.ndim <= 1)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
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


def trained_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The entries of the state dict that training changes.

    Left out are the modules whose own parameters are all frozen, with their running statistics.
    """
    tensors = network.state_dict()
    for name, module in network.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            prefix = f"{name}." if name else ""
            for key, _ in [
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ]:
                tensors.pop(prefix + key, None)
    return tensors


def load_trained(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors into the network; they must be exactly those that training changes."""
    expected = trained_tensors(network)
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())
        raise ValueError(f"it belongs to another model ({odd[0]})")
    network.load_state_dict(tensors, strict=False)


def shadow(network: nn.Module) -> nn.Module:
    """A copy of the network that shares its frozen tensors."""
    trained = trained_tensors(network).keys()
    entries = [*network.named_parameters(), *network.named_buffers()]
    frozen = {id(tensor): tensor for name, tensor in entries if name not in trained}
    return copy.deepcopy(network, frozen)

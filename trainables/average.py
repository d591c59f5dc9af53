"""The moving average of a network: a second look at a training, made at every step.

The weights of a training with a large learning rate swing about the point that they will settle on
when the rate falls; their average over the last epoch is near that point long before. So it tells
early what the training will be worth, and is often the better model at the end as well. Measured:
`tests/benchmarks/early_looks.py`.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

START = 9  # after n steps the average forgets its past at least as fast as n / (n + START)


class MovingAverage:
    """The exponential moving average of all that training changes, running statistics included.

    `model` is a copy of the network that shares its frozen tensors; `steps` counts the updates.
    """

    def __init__(self, network: nn.Module) -> None:
        self.model = shadow(network)
        self.steps = 0
        self._mean, self._now = floating(self.model), floating(network)

    def update(self, steps_per_epoch: int) -> None:
        """Take in the present weights, after a step: average = d average + (1 - d) weights.

        After n steps d = min(1 - 1 / steps_per_epoch, n / (n + 9)): the horizon is an epoch, and
        shorter at the start, when the first weights are better forgotten.
        """
        self.steps += 1
        decay = min(1 - 1 / steps_per_epoch, self.steps / (self.steps + START))
        get_ema_multi_avg_fn(decay)(self._mean, self._now, self.steps)


def floating(network: nn.Module) -> list[Tensor]:
    """The tensors that training changes, each once; not the counters of BatchNorm."""
    trained = trained_tensors(network).keys()
    entries = [*network.named_parameters(), *network.named_buffers()]
    return [t.detach() for name, t in entries if name in trained and t.is_floating_point()]


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

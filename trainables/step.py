"""One step of the optimizer: kernel by kernel, or on a CUDA GPU as one graph of all its kernels.

A step of ResNet-18 is some 400 kernels. On a fast GPU one CPU thread launches them more slowly than
batches below 512 are computed; a graph is launched at once. The README has the figures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import TrainConfig
from trainables.state import TrainState

# Steps before a capture: cuDNN tries its algorithms, the optimizer makes its buffers. PyTorch's
# notes on CUDA graphs ("Whole-network capture") warm up by three.
WARM_UP = 3


def train_step(
    state: TrainState, inputs: Tensor, labels: Tensor, label_smoothing: float, at_once: int = 0
) -> Tensor:
    """One step, kernel by kernel; the batch's mean loss, on the device.

    With `at_once` (images; 0: all) the gradients of so many at a time add up to the batch's.
    """
    state.optimizer.zero_grad(set_to_none=True)
    pieces = [(inputs, labels)]
    if at_once:
        pieces = list(zip(inputs.split(at_once), labels.split(at_once), strict=True))
    losses = []
    for some, truth in pieces:
        with state.machine.autocast():
            loss = functional.cross_entropy(
                state.network(some), truth, label_smoothing=label_smoothing
            )
        if len(pieces) > 1:
            loss = loss * (len(truth) / len(labels))
        state.scaler.scale(loss).backward()
        losses.append(loss.detach())
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def stepper(state: TrainState, config: TrainConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """What does the steps of this training: a function of inputs and labels, as `train_step`."""
    eager = functools.partial(
        train_step,
        state,
        label_smoothing=config.label_smoothing,
        at_once=config.micro_batch_size,
    )
    if not state.machine.graphs or config.micro_batch_size:
        return eager
    if state.step is None:
        state.step = GraphedStep(eager)
    return state.step


class GraphedStep:
    """`train_step`, captured in a graph for batches of one shape after three of them.

    Batches of another shape (an epoch's last one) run kernel by kernel. The graph holds the
    addresses of the state's tensors: one that has loaded others needs another graph.
    """

    def __init__(self, eager: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.eager = eager
        self.shape: torch.Size | None = None
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The batch's mean loss, valid until the next step."""
        self.shape = self.shape or inputs.shape
        if inputs.shape != self.shape:
            return self.eager(inputs, labels)
        self.steps += 1
        if self.steps <= WARM_UP:
            return self.eager(inputs, labels)
        if self.graph is None:
            self.capture(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        assert self.graph is not None
        self.graph.replay()
        return self.loss

    def capture(self, inputs: Tensor, labels: Tensor) -> None:
        """Record the kernels of a step; nothing is computed."""
        self.inputs, self.labels = torch.empty_like(inputs), torch.empty_like(labels)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.loss = self.eager(self.inputs, self.labels)
        self.graph = graph

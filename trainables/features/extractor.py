"""Passing images through a frozen backbone at the machine's speed.

On a CPU each core prepares and computes batches by itself: no thread waits for another inside an
operation, and what prepares images does not hold up what computes. On 2 cores with AVX512-BF16
mobilenet_v2 passes 250 images/s so, and 190 when one thread prepares and the network takes both.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Tracer
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainables.backbones.build import build_network
from trainables.backbones.cut import cut
from trainables.config import DogBreedConfig
from trainables.device import Machine, keep_memory
from trainables.features.files import Features
from trainables.large_images import LargeImages

# On a CPU a small batch's outputs are still in the cache when the next layer reads them.
CPU_BATCH, GPU_BATCH = 16, 256
GPU_THREADS = 8  # that prepare images while the network computes
BATCHES_AHEAD = 2  # of each thread
TOLERANCE = 1e-4  # of a folded network's outputs, relative to the largest

T = TypeVar("T")
Result = TypeVar("Result")


class Extractor:
    """A frozen backbone, or the frozen part of one, ready to compute.

    `network_seconds` adds up the time spent in it, over all of `num_threads`.
    """

    def __init__(self, config: DogBreedConfig, machine: Machine, image_size: int) -> None:
        """`config` is of one network. Raises ValueError when the weights cannot be had."""
        self.machine = machine
        on_cpu = machine.device.type == "cpu"
        if on_cpu:
            keep_memory()
        network = build_network(config)[0].eval().requires_grad_(False)
        if config.unfreeze:
            graphs = cut(network, config.unfreeze)
            assert graphs is not None
            network = GraphModule(network, graphs[0])
        if machine.precision != torch.float32:  # who asks for float32 asks for the same numbers
            network = fold(network, image_size)
        # torch's stubs lack this overload
        self.network = network.to(machine.device, memory_format=machine.memory_format)  # type: ignore[call-overload]
        self.batch_size = CPU_BATCH if on_cpu else GPU_BATCH
        self.num_threads = machine.threads if on_cpu else GPU_THREADS
        # A GPU is busy with one batch, and has memory for the activations of one.
        self.turn: AbstractContextManager[object] = nullcontext() if on_cpu else threading.Lock()
        self.network_seconds = 0.0
        self.counting = threading.Lock()

    def features(
        self,
        images: LargeImages,
        render: Callable[[int], Sequence[Tensor]],
        pieces: Sequence[range],
    ) -> Iterator[Features]:
        """The features of each of the ranges of images, in order; `render` prepares one image."""

        def compute(rows: range) -> Tensor:
            return self.run(images.batch([render(row) for row in rows], torch.tensor(rows))[0])

        batches = [self.split(piece) for piece in pieces]
        with one_thread_each(self.num_threads) as pool:
            jobs = (rows for piece in batches for rows in piece)
            outputs = ahead(pool, compute, jobs, BATCHES_AHEAD * self.num_threads)
            for piece in batches:
                yield torch.cat([next(outputs) for _ in piece]).cpu().numpy()

    def split(self, rows: range) -> list[range]:
        """A range of images in batches."""
        size = self.batch_size
        return [rows[first : first + size] for first in range(0, len(rows), size)]

    @torch.inference_mode()
    def run(self, inputs: Tensor) -> Tensor:
        """float32 (N, F) features of float32 (N, 3, H, W) images, or the activations in a row."""
        with self.turn:
            begun = time.perf_counter()
            with self.machine.autocast():
                features: Tensor = self.network(inputs)
            seconds = time.perf_counter() - begun
        with self.counting:
            self.network_seconds += seconds
        return features.float().flatten(1)


@contextmanager
def one_thread_each(num_threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads run torch's operations without helpers; the caller's are as before."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads, "features", torch.set_num_threads, (1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], Result], jobs: Iterable[T], depth: int
) -> Iterator[Result]:
    """The results in order, with `depth` of them under way or waiting."""
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Layers(Tracer):
    """Follows a network down to its convolutions and norms, which may be a library's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Those are, and torch's."""
        own = isinstance(m, nn.Conv2d | nn.BatchNorm2d)
        return own or super().is_leaf_module(m, module_qualified_name)


def fold(network: nn.Module, image_size: int) -> nn.Module:
    """The network with each BatchNorm merged into the convolution before it: less memory traffic.

    The same function up to rounding; one that cannot be traced, or computes something else
    afterwards, is left as it is. On 2 cores with AVX512-BF16 mobilenet_v2 passes 262 images/s in
    place of 182, resnet34 55 in place of 50 (one run each).
    """
    folded = copy.deepcopy(network)
    try:
        for before, name in pairs(folded):
            conv, norm = folded.get_submodule(before), folded.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            folded.set_submodule(before, fuse_conv_bn_eval(conv, norm))
            # timm's norms end in what may be dropped, and an activation
            rest = [getattr(norm, more) for more in ("drop", "act") if hasattr(norm, more)]
            folded.set_submodule(name, nn.Sequential(*rest))
    except (TraceError, TypeError, ValueError, RuntimeError):
        return network
    images = torch.linspace(-2, 2, 3 * image_size**2).view(1, 3, image_size, image_size)
    with torch.inference_mode():
        wanted, found = network(images), folded(images)
    difference = (found - wanted).abs().max()
    return folded if difference <= TOLERANCE * wanted.abs().max() else network


def pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and BatchNorm of which the second alone uses the first."""
    modules = dict(network.named_modules())
    found = []
    for node in Layers().trace(network).nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if (
            isinstance(before, torch.fx.Node)
            and before.op == "call_module"
            and isinstance(modules[str(node.target)], nn.BatchNorm2d)
            and isinstance(modules[str(before.target)], nn.Conv2d)
            and len(before.users) == 1
        ):
            found.append((str(before.target), str(node.target)))
    return found

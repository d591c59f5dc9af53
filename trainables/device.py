"""Where and in what precision a trial computes: chosen once, measured where it cannot be known."""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from data_prep.workers import usable_cores
from trainables.config import TrainConfig

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
WORTHWHILE = 1.2  # bfloat16 must be so many times faster: a busy machine must not toss a coin


@dataclass(frozen=True)
class Machine:
    """The device of a trial and how it is used."""

    device: torch.device
    precision: torch.dtype
    """Of matrix products and convolutions; weights, norms and losses stay in float32."""
    threads: int
    """CPU threads of torch's operations."""

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels last: what oneDNN (CPU) and cuDNN compute fastest in; MPS has no use for it."""
        return torch.contiguous_format if self.device.type == "mps" else torch.channels_last

    @property
    def graphs(self) -> bool:
        """Whether steps run as CUDA graphs: not with loss scaling, which asks the CPU each time."""
        return self.device.type == "cuda" and self.precision != torch.float16

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for the operations inside, none in float32."""
        enabled = self.precision != torch.float32
        # A graph's kernels must not read what was cast before it was captured.
        cached = not self.graphs
        return torch.autocast(
            self.device.type, self.precision, enabled=enabled, cache_enabled=cached
        )

    def to_device(self, inputs: torch.Tensor) -> torch.Tensor:
        """Move without waiting for the copy."""
        return inputs.to(self.device, non_blocking=True)


def resolve(config: TrainConfig) -> Machine:
    """The machine for a configuration.

    Raises ValueError for a device that is not there. Threads are those that torch was given
    (OMP_NUM_THREADS; Ray sets it to the trial's CPUs), but no more than the process may run on.
    """
    device = find_device(config.device)
    threads = min(torch.get_num_threads(), usable_cores())
    if config.precision != "auto":
        return Machine(device, PRECISIONS[config.precision], threads)
    return Machine(device, best_precision(device), threads)


def prepare(machine: Machine) -> None:
    """Undo what another trial may have left in this process, and set the number of threads."""
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    if torch.get_num_threads() != machine.threads:
        torch.set_num_threads(machine.threads)
    if machine.device.type == "cpu":
        keep_memory()
    if machine.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.backends.cudnn.benchmark = True  # batches have one shape


@functools.cache
def keep_memory() -> bool:
    """Let the C library keep freed memory for the next operation; whether it can be told to.

    Activations exceed the 32 MB above which glibc maps each allocation anew and unmaps it when it
    is freed, so that every operation waits for fresh, zeroed pages. On 2 cores, ResNet-18 in
    batches of 256 passes 119 images/s in place of 102 in bfloat16, 64 in place of 46 in float32
    (medians of three). The price: the process keeps its peak memory until it ends. Source:
    mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:  # not glibc
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 64 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` takes the best there is."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(name)
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not mps
    )
    if missing:
        raise ValueError(
            f"device={name}: torch {torch.__version__} sees no such device here"
            f" ({torch.cuda.device_count()} CUDA devices); use device=auto or device=cpu"
        )
    return device


def best_precision(device: torch.device) -> torch.dtype:
    """What the device is fastest in without harm to the result.

    CUDA: bfloat16 from compute capability 8.0, float16 (with loss scaling) from 7.0, which are the
    generations with matrix units for them. CPU: measured. MPS: float32.
    """
    if device.type == "cuda":
        generation = torch.cuda.get_device_capability(device)[0]
        if generation >= 8:
            return torch.bfloat16
        return torch.float16 if generation == 7 else torch.float32
    if device.type == "cpu" and bfloat16_gain() >= WORTHWHILE:
        return torch.bfloat16
    return torch.float32


@functools.cache
def bfloat16_gain() -> float:
    """How many times faster a convolution's training step is in bfloat16 on this CPU.

    0 where oneDNN has no bfloat16 kernels. Takes about 0.3 s; the answer is kept for the process.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0.0
    with torch.inference_mode(False), torch.enable_grad():
        return measured_gain()


def measured_gain() -> float:
    """As `bfloat16_gain`, without a look at what the CPU has.

    The time is that of one core and of this thread alone: other work on the machine, such as
    trials that start at the same moment, must not change the answer.
    """
    with torch.random.fork_rng(devices=[]):
        convolution = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
        images = torch.randn(16, 64, 32, 32).to(memory_format=torch.channels_last)

    def step(precision: torch.dtype) -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = convolution(images).sum()
        loss.backward()

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [(seconds(step, torch.float32), seconds(step, torch.bfloat16)) for _ in range(9)]
    finally:
        torch.set_num_threads(before)
    return min(plain for plain, _ in times[1:]) / min(fast for _, fast in times[1:])


def seconds(step: Callable[[torch.dtype], None], precision: torch.dtype) -> float:
    """CPU time of one step on this thread."""
    begun = time.thread_time()
    step(precision)
    return time.thread_time() - begun

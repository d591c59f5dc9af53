"""How many trials share a GPU (`--gpus-per-trial auto`): arithmetic on measured memory."""

from __future__ import annotations

from collections.abc import Sequence

MARGIN = 1.15  # measured in one batch; allocator rounding and a longer last batch come on top
CONTEXT = 600 * 2**20  # bytes that CUDA itself takes in every process, outside torch's allocator
MOST = 8  # trials on a GPU: beyond that they take its time from one another
SMALLEST = 0.01  # Ray counts GPUs in ten-thousandths; two digits are easier to read


def trials_per_gpu(trial_bytes: int, gpu_bytes: Sequence[int]) -> int:
    """Trials that fit on every one of the GPUs at once, by the smallest.

    `trial_bytes` is the peak of torch's allocator in the largest configuration. Raises ValueError
    when not even one fits.
    """
    each = trial_bytes * MARGIN + CONTEXT
    count = int(min(gpu_bytes) // each)
    if count < 1:
        raise ValueError(
            f"the largest configuration needs {each / 2**30:.1f} GiB of GPU memory, the smallest"
            f" GPU has {min(gpu_bytes) / 2**30:.1f}; narrow --range batch_size, or the model"
        )
    return min(count, MOST)


def share(count: int) -> float:
    """The fraction of a GPU to ask Ray for, so that exactly `count` trials fit on one."""
    return int(1 / count / SMALLEST) * SMALLEST if count > 1 else 1.0

"""What Ray runs for a trial: the task's trainable, with its errors caught and told.

An exception that reaches Ray costs a new worker process (seconds of imports) and, unless it is told
apart from a lost node, a retry of something that will fail again. So it is told as a last result.
"""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from search.text import named

Trainable = Callable[..., None]


def make_trainable(
    trainable: Trainable,
    defaults: Mapping[str, Any],
    metric: str,
    find_data: Callable[[], str],
    checkpoint_epochs: tuple[int, ...],
    gpus: float = 0.0,
) -> Callable[[dict[str, Any]], None]:
    """The function to hand to Ray; nothing but numbers and names is pickled with it.

    `find_data` tells on the trial's node where the prepared data is there. A trial with a part of a
    GPU (`gpus` below 1) gets that part of its memory; out of it, it asks to be run again alone.
    """
    shared = 0 < gpus < 1

    def trial(config: dict[str, Any]) -> None:
        alone = bool(config.get("_alone"))
        try:
            limit_gpu_memory(gpus if shared and not alone else 1.0)
            full = {**defaults, **config, "_metric": metric}
            trainable(full, data_dir=find_data(), checkpoint_epochs=checkpoint_epochs)
        except Exception as error:
            tune.report(
                {
                    metric: math.nan,
                    "epoch": 0,
                    "error": named(error),
                    "traceback": traceback.format_exc(),
                    "retry_alone": shared and not alone and is_gpu_oom(error),
                }
            )
        finally:
            free_gpu_memory()

    return trial


def is_gpu_oom(error: BaseException) -> bool:
    """Whether the trial ran out of GPU memory: torch.OutOfMemoryError, in every version."""
    return type(error).__name__ == "OutOfMemoryError"


def limit_gpu_memory(fraction: float) -> None:
    """Keep torch in this process within a part of its GPU, so that neighbours are not starved."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(fraction)


def free_gpu_memory() -> None:
    """Give back what a trial held: the process is used again, by another trial."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        with contextlib.suppress(RuntimeError):  # after a CUDA error nothing can be given back
            torch.cuda.empty_cache()

"""What Ray runs for a trial: the task's trainable, with its errors put into words.

An error is raised to Ray, which then ends the worker process: after a CUDA error, or whatever else
a trial may have broken, nothing that runs in it can be trusted. It costs seconds of imports, and
only where a trial fails; healthy trials follow one another in the same process.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from search.running.trouble import OWN_MEMORY, STORAGE, Kind, kind_of
from search.text import masked, named

Trainable = Callable[..., None]


class Data(Protocol):
    """The prepared data, wherever a trial runs (`cluster/node_data.py`)."""

    def here(self) -> str:
        """A folder on this node with the data."""

    def is_here(self) -> bool:
        """Whether that folder can be read now."""


class TrialError(Exception):
    """An error in a trial: its kind, its words, and what must be known to judge it.

    `reused`: the process had run another trial before, which may have broken it. `crowded`: the
    trial went beyond the memory of its part of a GPU.
    """

    def __init__(self, kind: Kind, text: str, reused: bool, crowded: bool) -> None:
        super().__init__(kind, text, reused, crowded)  # Ray copies and pickles it by its args
        self.kind = kind
        self.text = text
        self.reused = reused
        self.crowded = crowded

    def __str__(self) -> str:
        return self.text


def make_trainable(
    trainable: Trainable,
    defaults: Mapping[str, Any],
    metric: str,
    data: Data,
    checkpoint_epochs: tuple[int, ...],
    gpus: float = 0.0,
) -> Callable[[dict[str, Any]], None]:
    """The function to hand to Ray; nothing but numbers and names is pickled with it.

    A trial with a part of a GPU (`gpus` below 1) gets that part of its memory. Raises TrialError.
    """
    shared = 0 < gpus < 1
    ran: list[str] = []  # trials of this process: each one has a copy of its own

    def trial(config: dict[str, Any]) -> None:
        alone = bool(config.get("_alone"))
        reused = bool(ran)
        ran.append(str(config.get("_trial_id")))
        try:
            if shared:
                limit_gpu_memory(1.0 if alone else gpus)
            full = {**defaults, **config, "_metric": metric}
            trainable(full, data_dir=data.here(), checkpoint_epochs=checkpoint_epochs)
        except Exception as error:
            raise put_into_words(error, data, reused, shared and not alone) from None
        finally:
            free_gpu_memory()

    return trial


def put_into_words(error: Exception, data: Data, reused: bool, shares: bool) -> TrialError:
    """The error as Ray is told it; while the data is out of reach, whatever fails is for that."""
    # Into the worker's log: what Ray is told must be picklable
    sys.stderr.write(masked(traceback.format_exc()))
    if not data.is_here():
        text = f"the prepared data is out of reach ({named(error)})"
        return TrialError(STORAGE, text, reused, crowded=False)
    kind = kind_of(error)
    return TrialError(kind, named(error), reused, crowded=shares and kind == OWN_MEMORY)


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

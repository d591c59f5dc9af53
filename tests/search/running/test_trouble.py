"""The table: which error is whose fault."""

from __future__ import annotations

import errno

import pytest
import ray.exceptions
import torch

from search.running.retries import WorkerError
from search.running.trouble import (
    CHECKPOINT,
    CLUSTER,
    NODE_LOST,
    NODE_MEMORY,
    OWN_ERROR,
    OWN_MEMORY,
    PROCESS_DIED,
    STORAGE,
    Kind,
    kind_of,
)
from trainables.state import CheckpointError

OWN_FAULT = (OWN_ERROR, OWN_MEMORY)
LOW = "Task was killed due to the node running low on memory."
TABLE = [
    (ValueError("lr must be positive"), OWN_ERROR),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OWN_ERROR),
    (RuntimeError("CUDA error: device-side assert triggered"), OWN_ERROR),
    (MemoryError("9 GiB wanted"), OWN_MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), OWN_MEMORY),
    (OSError(errno.ENOSPC, "No space left on device"), STORAGE),
    (FileNotFoundError("data/train.npy"), STORAGE),
    (CheckpointError("checkpoint a/state.pt cannot be used: torn"), CHECKPOINT),
    (ConnectionResetError("peer"), STORAGE),
    (TimeoutError("storage"), STORAGE),
    (
        RuntimeError("[enforce fail at inline_container.cc:783] . file write failed"),
        STORAGE,
    ),
    (RuntimeError("Unable to set up cluster storage with the following settings"), STORAGE),
    (
        ray.exceptions.OutOfMemoryError(LOW),
        NODE_MEMORY,
    ),
    (WorkerError(LOW), NODE_MEMORY),
    (WorkerError("The actor died because its node has died. Node Id: 1f"), NODE_LOST),
    (WorkerError("The actor is dead because its worker process has died."), PROCESS_DIED),
    (ray.exceptions.RayActorError(), PROCESS_DIED),
    (ray.exceptions.WorkerCrashedError(), PROCESS_DIED),
    (ray.exceptions.ObjectLostError("00", "", ""), CLUSTER),
    (ray.exceptions.GetTimeoutError("late"), CLUSTER),
]


@pytest.mark.parametrize(("error", "kind"), TABLE, ids=lambda value: str(value)[:40])
def test_the_kind_of_an_error(error: BaseException, kind: Kind) -> None:
    assert kind_of(error) == kind
    assert kind.machines == (kind not in OWN_FAULT)


def raise_from(cause: BaseException, *, hide: bool) -> None:
    """Raise a ValueError while another error is handled."""
    try:
        raise cause
    except OSError:
        if hide:
            raise ValueError("wrong number of classes") from None
        raise ValueError("packed images are unusable")  # noqa: B904


@pytest.mark.parametrize(("hide", "kind"), [(False, STORAGE), (True, OWN_ERROR)])
def test_what_an_error_was_raised_from_counts_unless_it_is_hidden(hide: bool, kind: Kind) -> None:
    with pytest.raises(ValueError, match=r"unusable|wrong") as raised:
        raise_from(OSError(errno.EIO, "Input/output error"), hide=hide)
    assert kind_of(raised.value) == kind

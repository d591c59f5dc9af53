"""What went wrong with a trial, and whose fault it is: the configuration's or the machine's.

The machine's trouble is tried again and never told to a sampler; `search/ARCHITECTURE.md` has the
table of what follows from each kind. Errors are known by their names: neither Ray nor torch is
imported, and what cannot be unpickled is still understood by its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of trouble. `pause` is what lies before the next try, in seconds."""

    name: str
    machines: bool
    """The machine's trouble, not the configuration's fault."""
    pause: float = 0.0


OWN_ERROR = Kind("error", machines=False)
OWN_MEMORY = Kind("out of memory", machines=False)
CHECKPOINT = Kind("checkpoint", machines=True)
STORAGE = Kind("storage", machines=True, pause=5.0)
NODE_MEMORY = Kind("node short of memory", machines=True, pause=5.0)
NODE_LOST = Kind("node lost", machines=True, pause=1.0)
PROCESS_DIED = Kind("process died", machines=True, pause=1.0)
CLUSTER = Kind("cluster", machines=True, pause=1.0)

# What says that a disk or a file system failed where the error's type does not: torch's own writer
# of checkpoints, shared memory of data loaders, Ray's message for storage that it cannot see.
STORAGE_PHRASES = (
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Stale file handle",
    "Too many open files",
    "PytorchStreamWriter",
    "inline_container",
    "cluster storage",
    "OSError: [Errno",
)
NODE_MEMORY_PHRASES = ("low on memory", "OUT_OF_MEMORY")
NODE_LOST_PHRASES = ("node has died", "node was terminated", "node is dead", "NODE_DIED")


def kind_of(error: BaseException) -> Kind:
    """The kind of trouble that an exception tells of: a trial's own, or Ray's about its process."""
    if any(is_rays(one) for one in causes(error)):
        return kind_of_rays(error)
    if any(name in ("OutOfMemoryError", "MemoryError") for name in names(error)):
        return OWN_MEMORY
    if "CheckpointError" in names(error):
        return CHECKPOINT
    if any(isinstance(one, OSError) or mentions(one, STORAGE_PHRASES) for one in causes(error)):
        return STORAGE
    return OWN_ERROR


def kind_of_rays(error: BaseException) -> Kind:
    """What Ray says of a process, by its words: memory, node, or the process alone."""
    if mentions(error, NODE_MEMORY_PHRASES) or "OutOfMemoryError" in names(error):
        return NODE_MEMORY
    if mentions(error, NODE_LOST_PHRASES) or "NodeDiedError" in names(error):
        return NODE_LOST
    if mentions(error, STORAGE_PHRASES):
        return STORAGE
    by_process = any("Actor" in name or "Worker" in name for name in names(error))
    return PROCESS_DIED if by_process else CLUSTER


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def names(error: BaseException) -> list[str]:
    """Names of the exception's class and of those above it."""
    return [kind.__name__ for kind in type(error).__mro__]


def is_rays(error: BaseException) -> bool:
    """Whether Ray raised it: about a process, a node, or the cluster."""
    return type(error).__module__.partition(".")[0] == "ray"


def mentions(error: BaseException, phrases: tuple[str, ...]) -> bool:
    """Whether the error's text holds one of the phrases."""
    text = str(error)
    return any(phrase in text for phrase in phrases)

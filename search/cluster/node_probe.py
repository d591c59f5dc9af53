"""What every node is asked before a search starts: versions, data, storage, disk, files, GPUs.

Runs on the nodes as a Ray task that takes no CPU, with the trials' own environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.cluster.node_data import cache_folder, holds
from search.cluster.resources import Node
from search.cluster.storage import Storage
from search.records.versions import versions
from search.text import first_line, named

TIMEOUT = 120.0  # seconds; a node that starts its first worker on a busy machine takes some ten


@dataclass(frozen=True)
class Question:
    """What the driver wants to know of a node."""

    data_root: str
    fingerprint: str
    storage: str
    """The search's storage."""
    token: str
    """Folder in the storage with the driver's file, whose content is the folder's name."""
    files: tuple[tuple[str, int], ...]
    """Paths and sizes of files that knobs name, such as weights."""


@dataclass(frozen=True)
class Answer:
    """What a node says. Sizes in bytes."""

    versions: dict[str, str]
    data: str
    """Where it finds the data: `shared`, `cached`, or `absent`."""
    storage_error: str | None
    storage_free: int | None
    """None where the storage is a service."""
    scratch_free: int
    """Room for temporary files, in which checkpoints are written before they are stored."""
    cache_free: int
    missing: tuple[str, ...]
    gpu_memory: tuple[int, ...]


def answer(question: Question, node_id: str) -> Answer:
    """Look around on this node."""
    cached = cache_folder(question.fingerprint)
    shared = holds(Path(question.data_root), question.fingerprint)
    data = "shared" if shared else "cached" if holds(cached, question.fingerprint) else "absent"
    storage = Storage(question.storage)
    return Answer(
        versions(),
        data,
        storage_trouble(storage, question.token, node_id),
        None if storage.is_uri else free_bytes(Path(question.storage)),
        free_bytes(Path(tempfile.gettempdir())),
        free_bytes(cached),
        tuple(path for path, size in question.files if not same_file(path, size)),
        gpu_memory(),
    )


def storage_trouble(storage: Storage, token: str, node_id: str) -> str | None:
    """Read what the driver wrote, write something for it to read; None, or what went wrong."""
    try:
        if storage.read(f"{token}/driver") != token.encode():
            return "reads something else there than was written"
    except FileNotFoundError:
        return "does not see what was written there"
    except (OSError, ValueError) as error:
        return f"cannot read there: {first_line(error)}"
    try:
        storage.write(f"{token}/{node_id}", node_id.encode())
    except (OSError, ValueError) as error:
        return f"cannot write there: {first_line(error)}"
    return None


def free_bytes(path: Path) -> int:
    """Free bytes of the file system that the path is on, or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def same_file(path: str, size: int) -> bool:
    """Whether there is a file of this size."""
    try:
        return os.path.getsize(path) == size
    except OSError:
        return False


def gpu_memory() -> tuple[int, ...]:
    """Bytes of each GPU of the node, without importing torch; none without NVIDIA's driver."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        return tuple(int(line) * 2**20 for line in told.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def ask_nodes(question: Question, nodes: Sequence[Node]) -> list[Answer | str]:
    """Every node's answer, in order, asked at once; a text where a node could not give one."""
    task = ray.remote(num_cpus=0, max_retries=0)(answer)
    pending = {
        node.node_id: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        ).remote(question, node.node_id)
        for node in nodes
    }
    ready, _ = ray.wait(list(pending.values()), num_returns=len(pending), timeout=TIMEOUT)
    answers: list[Answer | str] = []
    for reference in pending.values():
        if reference not in ready:
            answers.append(f"gives no answer within {TIMEOUT:.0f} s")
            ray.cancel(reference, force=True)
            continue
        try:
            answers.append(ray.get(reference))
        except (ray.exceptions.RayError, OSError, ImportError) as error:
            answers.append(f"cannot run a task: {reason_of(error)}")
    return answers


def reason_of(error: BaseException) -> str:
    """The line of a remote error that says what happened: the last one of its traceback."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return named(cause)
    lines = [line for line in str(error).strip().split("\n") if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__

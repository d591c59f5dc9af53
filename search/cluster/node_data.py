"""Prepared data on every node: from the shared path, or through the object store once a node.

A trial asks `NodeData.here()`. Where the node does not see the prepared folder, the first trial on
it fetches the packed files from a small server on the driver's node, and writes them to a cache
keyed by the fingerprint. All trials of the node map these files. Nodes that join late do the same.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from filelock import FileLock
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_prep.files import whole_folder
from data_prep.pack import read_packed

SERVER = "resnet-tune-data"  # actor name in the driver's own namespace
CACHE_VARIABLE = "RESNET_TUNE_CACHE"
CHUNK = 64 * 2**20  # bytes of one object: what a node holds twice while it fetches
PACKED = "packed"
FINGERPRINT = re.compile(r"[0-9a-f]{16,128}")


class DataServer:
    """Puts the packed files into the object store, each chunk once, when first asked."""

    def __init__(self, root: str) -> None:
        self.folder = Path(root, PACKED)
        self.chunks: dict[str, list[Any]] = {}

    def files(self) -> dict[str, list[Any]]:
        """File name -> references to its chunks (uint8 arrays) in order."""
        if not self.chunks:
            self.chunks = {path.name: put_file(path) for path in sorted(self.folder.iterdir())}
        return self.chunks


def put_file(path: Path) -> list[Any]:
    """References to the chunks of a file."""
    content = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else empty()
    return [ray.put(np.asarray(content[i : i + CHUNK])) for i in range(0, len(content), CHUNK)]


def empty() -> NDArray[np.uint8]:
    """No bytes."""
    return np.zeros(0, dtype=np.uint8)


def serve(root: Path) -> Any:
    """Start the server on the driver's node; it ends with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    server = ray.remote(DataServer).options(name=SERVER, num_cpus=0, scheduling_strategy=here)
    return server.remote(str(root.resolve()))


@dataclass(frozen=True)
class NodeData:
    """The prepared data of one task, wherever a trial runs."""

    root: str
    """The prepared folder, as the driver sees it."""
    fingerprint: str
    """Of the data; any other data in `root` or in the cache is not used."""

    def here(self) -> str:
        """A folder on this node whose `packed/` is the data; fetched if need be.

        Raises OSError when the node's cache cannot hold it, ValueError when it arrives damaged.
        """
        return find_or_fetch(self.root, self.fingerprint)

    def is_here(self) -> bool:
        """Whether that folder holds the data now, and can be read."""
        folders = (Path(self.root), cache_folder(self.fingerprint))
        return any(holds(folder, self.fingerprint) for folder in folders)


@functools.lru_cache(maxsize=8)
def find_or_fetch(root: str, fingerprint: str) -> str:
    """As `NodeData.here`; the answer is kept for the process."""
    cached = cache_folder(fingerprint)
    for folder in (Path(root), cached):
        if holds(folder, fingerprint):
            return str(folder)
    cached.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cached.with_suffix(".lock")):  # one trial of the node fetches, the others wait
        if not holds(cached, fingerprint):
            fetch(cached, Path(root), fingerprint)
    return str(cached)


def holds(folder: Path, fingerprint: str) -> bool:
    """Whether a folder has packed images of this fingerprint, as they were written."""
    return fault(folder, fingerprint) is None


def fault(folder: Path, fingerprint: str) -> str | None:
    """Why a folder does not hold them."""
    try:
        read_packed(folder / PACKED, fingerprint)
    except ValueError as error:
        return str(error)
    return None


def cache_folder(fingerprint: str) -> Path:
    """Where this node keeps its copy: below $RESNET_TUNE_CACHE, else the user's cache folder.

    Raises ValueError for what is no fingerprint: the folder is replaced when its data are.
    """
    if not FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(f"{fingerprint!r} is no fingerprint of prepared data; prepare them again")
    named = os.environ.get(CACHE_VARIABLE)
    base = Path(named) if named else Path.home() / ".cache" / "resnet-tune"
    return base / "data" / fingerprint[:16]


def fetch(cached: Path, root: Path, fingerprint: str) -> None:
    """Write the server's files to the cache, aside first. The caller holds the lock.

    Raises OSError that says what is wrong with `root` where there is no server.
    """
    try:
        server = ray.get_actor(SERVER)
    except ValueError:  # where all nodes are this machine there is none
        raise OSError(fault(root, fingerprint) or f"{root}: no server of the data") from None
    files = ray.get(server.files.remote())
    with whole_folder(cached) as aside:
        (aside / PACKED).mkdir()
        for name, references in files.items():
            with (aside / PACKED / name).open("wb") as file:
                for reference in references:
                    file.write(memoryview(ray.get(reference)))
        if not holds(aside, fingerprint):
            raise ValueError(f"the data that arrived in {aside} is not {fingerprint[:16]}")

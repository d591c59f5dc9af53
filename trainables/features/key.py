"""Digests of what features are made of; remembered, so that a trial need not read it all again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from data_prep.files import from_json
from trainables.backbones.build import build_network
from trainables.backbones.networks import file_of, published, weights_of
from trainables.backbones.specs import TIMM, name_and_size
from trainables.config import DogBreedConfig
from trainables.features.files import digest_of
from trainables.files import replacing

DIGESTS = "digests.json"


def remembered(root: Path, what: str, compute: Callable[[], str]) -> str:
    """The digest of `what`, a text that names one version of one thing. Kept in root/digests.json.

    Two processes that add to the file at once may lose an entry, which is then computed again.
    """
    path = root / DIGESTS
    try:
        known = from_json(path.read_text(encoding="utf-8"))
        return str(known[what])
    except (OSError, ValueError, KeyError, TypeError):
        digest = compute()
    try:
        known = dict(from_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    with replacing(path) as aside:
        aside.write_text(json.dumps({**known, what: digest}, indent=2) + "\n", encoding="utf-8")
    return digest


def version_of(path: Path) -> str:
    """A text that changes whenever the file does: no program can set its change time."""
    stat = path.stat()
    return f"{path.absolute()} {stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def file_digest(root: Path, path: Path) -> str:
    """SHA-256 of a file's bytes."""

    def compute() -> str:
        with path.open("rb") as file:
            return digest_of(file.fileno(), path.stat().st_size).hex()

    return remembered(root, version_of(path), compute)


def backbone_digest(root: Path, config: DogBreedConfig) -> str:
    """SHA-256 of one network's tensors: the same wherever the weights came from."""
    source, name = config.weights, name_and_size(config.backbone)[0]
    path = file_of(source)
    if path is not None:
        source = version_of(path)
    elif source == "random":
        source += f" seed {config.seed} torch {torch.__version__}"
    elif name.startswith(TIMM):
        source += f" {weights_of(name, source)}"
    else:
        source += f" {published(name, source).url}"  # its name holds a digest
    # A joined model's file holds several networks: which of them is told by the part's whole name.
    what = f"{config.backbone if path is not None else name}: {source}"
    return remembered(root, what, lambda: tensors_digest(build_network(config)[0]))


def tensors_digest(network: nn.Module) -> str:
    """SHA-256 of all tensors of a network that change its outputs in evaluation mode."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not name.endswith(".num_batches_tracked"):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

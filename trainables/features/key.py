"""Digests of what features are made of; remembered, so that a trial need not read it all again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torchvision.models import get_model_weights

from trainables.backbone import load_backbone
from trainables.config import DogBreedConfig
from trainables.device import resolve
from trainables.features.files import digest_of
from trainables.files import replacing
from trainables.state import seeded

DIGESTS = "digests.json"


def remembered(root: Path, what: str, compute: Callable[[], str]) -> str:
    """The digest of `what`, a text that names one version of one thing. Kept in root/digests.json.

    Two processes that add to the file at once may lose an entry, which is then computed again.
    """
    path = root / DIGESTS
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return str(known[what])
    except (OSError, ValueError, KeyError, TypeError):
        digest = compute()
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
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
    """SHA-256 of the backbone's tensors: the same wherever the weights came from."""
    source = config.weights
    if source == "random":
        source += f" seed {config.seed} torch {torch.__version__}"
    elif source == "imagenet":
        source += f" {get_model_weights(config.backbone).DEFAULT.url}"  # its name holds a digest
    else:
        source = version_of(Path(source))
    what = f"{config.backbone}: {source}"
    return remembered(root, what, lambda: tensors_digest(make_backbone(config)))


def make_backbone(config: DogBreedConfig) -> nn.Module:
    """The backbone as a trial makes it: random weights are those of the trial's seed."""
    with seeded(resolve(config), config.seed, 0):
        return load_backbone(config.backbone, config.weights)[0]


def tensors_digest(network: nn.Module) -> str:
    """SHA-256 of all tensors of a network that change its outputs in evaluation mode."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not name.endswith(".num_batches_tracked"):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

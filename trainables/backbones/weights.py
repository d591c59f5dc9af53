"""Weights files: read without running their code, and loaded exactly."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, or one of torch's without running its code."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as e:
        reason = str(e).strip().split("\n")[0] or type(e).__name__
        raise ValueError(f"weights={path} cannot be read: {reason}") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ValueError(f"weights={path} holds no state dict (names and tensors)")
    return dict(tensors)


def fill(network: nn.Module, tensors: dict[str, Tensor], problem: str) -> None:
    """Load all tensors, exactly. Raises ValueError that begins with `problem` otherwise."""
    own = network.state_dict()
    # Files of 2017 (resnet34-333f7ec4.pth) are older than this counter, which evaluation ignores.
    counters = {name for name in own if name.endswith(".num_batches_tracked")}
    missing = sorted(own.keys() - tensors.keys() - counters)
    unknown = sorted(tensors.keys() - own.keys())
    other = sorted(k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape)
    for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other)):
        if names:
            raise ValueError(f"{problem}: {len(names)} tensors {what}, such as {names[0]}")
    for name, tensor in tensors.items():  # load_state_dict asks some networks for a file's version
        own[name].copy_(tensor)

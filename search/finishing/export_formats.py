"""The formats in which a network is handed on: how each is written, and how its file is run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

INPUT, OUTPUT = "images", "logits"


@dataclass(frozen=True)
class Format:
    """One of them."""

    suffix: str
    write: Callable[[nn.Module, Tensor, Path], None]
    """Write a network in evaluation mode that takes such images, in batches of any size."""
    run: Callable[[nn.Module, Tensor, Path], Tensor]
    """The logits of the written file, for these images; the network is there to be copied."""
    packages: tuple[str, ...] = ()
    """What must be installed besides: the extra `export`."""


def write_safetensors(network: nn.Module, images: Tensor, path: Path) -> None:
    """The tensors by torch's names; each a copy, as the format has no shared ones."""
    tensors = {name: t.detach().clone().contiguous() for name, t in network.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt"})


def run_safetensors(network: nn.Module, images: Tensor, path: Path) -> Tensor:
    """By a copy of the network that has lost all its own numbers."""
    emptied = copy.deepcopy(network)
    for tensor in emptied.state_dict().values():
        tensor.zero_()
    emptied.load_state_dict(load_file(path))
    return logits(emptied, images)


def write_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    """By torch's exporter, everything in one file."""
    torch.onnx.export(
        network,
        (images,),
        path,
        dynamo=True,
        external_data=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )


def run_onnx(network: nn.Module, images: Tensor, path: Path) -> Tensor:
    """By onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: Any = session.run([OUTPUT], {INPUT: images.numpy()})[0]
    return torch.from_numpy(found)


def write_torchscript(network: nn.Module, images: Tensor, path: Path) -> None:
    """By a trace."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)  # it is what is asked for
        torch.jit.save(torch.jit.trace(network, (images,)), path)


def run_torchscript(network: nn.Module, images: Tensor, path: Path) -> Tensor:
    """By torch, without any of our classes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)
        return logits(torch.jit.load(path), images)


@torch.inference_mode()
def logits(network: nn.Module, images: Tensor) -> Tensor:
    """float32 (N, C), as they are."""
    found: Tensor = network(images).float()
    return found


FORMATS = {
    "safetensors": Format("safetensors", write_safetensors, run_safetensors),
    "onnx": Format("onnx", write_onnx, run_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torchscript": Format("pt", write_torchscript, run_torchscript),
}

"""A torchvision classification network without its last layer, frozen under a new head."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model

# What torchvision calls the sequence of all blocks: most, MNASNet, RegNet, MaxViT.
TRUNKS = ("features", "layers", "trunk_output", "blocks")
SAVED = "backbone."  # how the backbone's tensors are named in a saved FineTuned


class FineTuned(nn.Module):
    """`head` on the features of `backbone`, of which only the last `unfreeze` stages are trained.

    The rest never changes: no gradients, evaluation mode, running statistics that stay. Inputs are
    images (N, 3, H, W), or the backbone's features (N, F), which go to the head directly. The
    head computes in float32 whatever the backbone's precision: that costs nothing.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, unfreeze: int = 0) -> None:
        """Raises ValueError when the backbone has fewer stages than `unfreeze`."""
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = head
        found = stages(backbone)
        if unfreeze > len(found):
            raise ValueError(f"unfreeze={unfreeze}: the backbone has only {len(found)} stages")
        self.num_trained = unfreeze
        for stage in self.trained_stages():
            stage.requires_grad_(True)

    def trained_stages(self) -> list[nn.Module]:
        """The stages that are not frozen."""
        found = stages(self.backbone)
        return found[len(found) - self.num_trained :]

    def train(self, mode: bool = True) -> FineTuned:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        for stage in self.trained_stages():
            stage.train(mode)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, C)."""
        features = inputs if inputs.ndim == 2 else self.backbone(inputs)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        return logits


def stages(backbone: nn.Module) -> list[nn.Module]:
    """The parts of a network that have parameters, in the order in which it names them.

    They are its children; in place of a trunk, a child that holds all blocks, its own children.
    """
    parts: list[nn.Module] = []
    for name, child in backbone.named_children():
        parts += list(child.children()) if name in TRUNKS else [child]
    return [part for part in parts if any(True for _ in part.parameters())]


def make_head(num_features: int, hidden: int, dropout: float, num_classes: int) -> nn.Sequential:
    """Linear, ReLU, Dropout, Linear; without a hidden layer (0) Dropout, Linear."""
    if hidden == 0:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))
    return nn.Sequential(
        nn.Linear(num_features, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )


def load_backbone(name: str, weights: str) -> tuple[nn.Module, int]:
    """A torchvision model with its last layer removed, and the number of its features.

    `weights`: `imagenet` (downloaded by torchvision), `random`, or the path of a file, which may
    lack the last layer, or hold a whole retrained model. Raises ValueError when the model does not
    end in a linear layer, or the weights cannot be had or are not this model's.
    """
    network = pretrained(name) if weights == "imagenet" else get_model(name, weights=None)
    place, last = last_layer(network, name)
    network.set_submodule(place, nn.Identity())
    if weights not in ("imagenet", "random"):
        tensors = read_weights(Path(weights))
        saved = {k.removeprefix(SAVED): v for k, v in tensors.items() if k.startswith(SAVED)}
        kept = saved or {k: v for k, v in tensors.items() if not k.startswith(f"{place}.")}
        fill(network, kept, f"weights={weights} are not those of backbone={name}")
    return network, last.in_features


def load_classifier(name: str, weights: str) -> tuple[Tensor, Tensor]:
    """Weight (classes, F) and bias of the last layer that `load_backbone` removes.

    Raises ValueError when the weights have none.
    """
    if weights == "imagenet":
        last = last_layer(pretrained(name), name)[1]
        return last.weight, last.bias
    tensors = {} if weights == "random" else read_weights(Path(weights))
    place = last_name(name)
    try:
        return tensors[f"{place}.weight"], tensors[f"{place}.bias"]
    except KeyError as error:
        raise ValueError(f"weights={weights} hold no classifier ({error.args[0]})") from None


def last_name(name: str) -> str:
    """What torchvision calls the last layer of this model."""
    return last_layer(get_model(name, weights=None), name)[0]


def last_layer(network: nn.Module, name: str) -> tuple[str, nn.Linear]:
    """A classification network's last layer and its name. Raises ValueError if it is not linear."""
    place, last = list(network.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        raise ValueError(f"backbone={name} ends in {type(last).__name__}, not in a linear layer")
    return place, last


def pretrained(name: str) -> nn.Module:
    """torchvision's model with its best ImageNet weights, from its cache or downloaded."""
    try:
        network: nn.Module = get_model(name, weights="DEFAULT", progress=False)
        return network
    except OSError as error:  # urllib's errors are OSErrors
        raise ValueError(
            f"weights=imagenet: torchvision cannot download {name} ({error}); give a file instead:"
            " --set weights=PATH"
        ) from None


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

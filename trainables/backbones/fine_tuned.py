"""A frozen backbone, of one network or several side by side, under a new head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

# What torchvision calls the sequence of all blocks: most, MNASNet, RegNet, MaxViT; and timm.
TRUNKS = ("features", "layers", "trunk_output", "blocks", "stages")


class Joined(nn.Module):
    """Several networks side by side: their features one after another, (N, F1 + F2 + ...).

    An image comes once for each way of preparing it, as three channels more and in the upper left
    corner where it is smaller than the largest: (N, 3 W, H, H) for W ways.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], places: Sequence[tuple[int, int]]
    ) -> None:
        """`places`: each network's way of preparing, counted from 0, and its image size."""
        super().__init__()
        self.parts = nn.ModuleDict(networks)
        self.places = tuple(places)

    def forward(self, images: Tensor) -> Tensor:
        """The features of all."""
        found = []
        for network, (way, size) in zip(self.parts.values(), self.places, strict=True):
            found.append(network(images[:, 3 * way : 3 * way + 3, :size, :size]))
        return torch.cat(found, 1)


class Scaled(nn.Module):
    """Features times one number for each network, so that none drowns the others."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        """`scale`: float32 (F,)."""
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, features: Tensor) -> Tensor:
        """The same shape."""
        return features * self.scale


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

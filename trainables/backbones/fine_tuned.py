"""A frozen backbone, of one network or several side by side, under a new head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.fx import Graph, Interpreter

from trainables.backbones.cut import cut
from trainables.backbones.stages import last_stages

CHANNELS = 3  # of images
NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


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
    images (N, 3, H, W), the frozen part's activations, from which the others go on, or the
    backbone's features (N, F), which go to the head directly. The head computes in float32 whatever
    the backbone's precision: that costs nothing.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, unfreeze: int = 0, freeze_norms: bool = False
    ) -> None:
        """`freeze_norms`: nor do norm layers of the trained stages change.

        Raises ValueError when the backbone has fewer stages than `unfreeze`.
        """
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = head
        self.num_trained = unfreeze
        self.freeze_norms = freeze_norms
        self.rest: Graph | None = None
        for stage in self.trained_stages():
            stage.requires_grad_(True)
        for norm in self.frozen_norms():
            norm.requires_grad_(False)

    def trained_stages(self) -> list[nn.Module]:
        """The stages that are not frozen."""
        return last_stages(self.backbone, self.num_trained)

    def frozen_norms(self) -> list[nn.Module]:
        """Norm layers of these that are."""
        inner = (m for stage in self.trained_stages() for m in stage.modules())
        return [m for m in inner if self.freeze_norms and isinstance(m, NORMS)]

    def train(self, mode: bool = True) -> FineTuned:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        for stage in self.trained_stages():
            stage.train(mode)
        for norm in self.frozen_norms():
            norm.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, C)."""
        features = inputs if inputs.ndim == 2 else self.features(inputs)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def features(self, inputs: Tensor) -> Tensor:
        """(N, F), of images or of the frozen part's activations."""
        if not self.num_trained or inputs.shape[1] == CHANNELS:
            found: Tensor = self.backbone(inputs)
            return found
        if self.rest is None:
            graphs = cut(self.backbone, self.num_trained)
            assert graphs is not None
            self.rest = graphs[1]
        found = Interpreter(self.backbone, graph=self.rest).run(inputs)
        return found


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

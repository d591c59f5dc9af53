"""The stages of a network, which are trained or not."""

from __future__ import annotations

from torch import nn

# What torchvision calls the sequence of all blocks: most, MNASNet, RegNet, MaxViT; and timm.
TRUNKS = ("features", "layers", "trunk_output", "blocks", "stages")


def stages(backbone: nn.Module) -> list[nn.Module]:
    """The parts of a network that have parameters, in the order in which it names them.

    They are its children; in place of a trunk, a child that holds all blocks, its own children.
    """
    parts: list[nn.Module] = []
    for name, child in backbone.named_children():
        parts += list(child.children()) if name in TRUNKS else [child]
    return [part for part in parts if any(True for _ in part.parameters())]


def last_stages(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The last ones. Raises ValueError when there are not so many."""
    found = stages(backbone)
    if count > len(found):
        raise ValueError(f"unfreeze={count}: the backbone has only {len(found)} stages")
    return found[len(found) - count :]

"""timm's smallest networks with random weights, whose features differ from image to image."""

from __future__ import annotations

from pathlib import Path

import timm
import torch

from tests.dog_features import see_noise

RESNET, EFFICIENTNET = "timm/test_resnet", "timm/test_efficientnet"


def tiny_weights(folder: Path, *names: str) -> str:
    """Files of random weights of these networks, as `weights` names them."""
    told = []
    for name in names or (RESNET, EFFICIENTNET):
        path = folder / f"{name.rpartition('/')[2]}.pth"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = timm.create_model(name.removeprefix("timm/"))
            see_noise(network)
        torch.save(network.state_dict(), path)
        told.append(f"{name}:{path}")
    return ",".join(told)

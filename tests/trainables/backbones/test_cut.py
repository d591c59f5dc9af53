"""Cutting networks before the stages that are trained."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.fx import Interpreter
from torchvision.models import get_model

from trainables.backbones.cut import cut
from trainables.backbones.stages import stages

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "unfreeze"),
    [("resnet18", 1), ("mobilenet_v2", 3), ("densenet121", 2), ("regnet_y_400mf", 1),
     ("swin_t", 2), ("shufflenet_v2_x0_5", 2), ("timm/test_resnet", 1),
     ("timm/test_efficientnet", 4)],
)  # fmt: skip
def test_the_two_parts_do_what_the_network_does(name: str, unfreeze: int) -> None:
    torch.manual_seed(0)
    plain = name.removeprefix("timm/")
    network = (timm.create_model(plain) if plain != name else get_model(name)).eval()
    graphs = cut(network, unfreeze)
    assert graphs is not None
    with torch.inference_mode():
        between = Interpreter(network, graph=graphs[0]).run(IMAGES)
        assert between.shape[1:] != IMAGES.shape[1:]
        found = Interpreter(network, graph=graphs[1]).run(between)
        assert torch.equal(found, network(IMAGES))
    trained = {id(stage) for stage in stages(network)[-unfreeze:]}
    names = {name for name, module in network.named_modules() if id(module) in trained}
    assert not names & {node.target for node in graphs[0].nodes}
    assert names <= {node.target for node in graphs[1].nodes}


class Around(nn.Module):
    """Something goes around the second stage; and, if told so, what is done depends on numbers."""

    def __init__(self, torn: bool) -> None:
        super().__init__()
        self.torn = torn
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 4, H, W)."""
        found: torch.Tensor = self.first(images)
        if self.torn and found.sum() > 0:
            return found
        after: torch.Tensor = self.second(found.relu())
        return after + found


def test_what_has_nothing_frozen_or_cannot_be_followed_is_not_cut() -> None:
    network = get_model("resnet18").eval()
    assert cut(network, len(stages(network))) is None
    assert cut(Around(torn=False), 1) is None
    assert cut(Around(torn=True), 1) is None
    with pytest.raises(ValueError, match="unfreeze=9: the backbone has only 7 stages"):
        cut(network, 9)

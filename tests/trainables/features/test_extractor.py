"""The frozen network as it computes features: folded, in order, ahead of itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import nn
from torchvision.models import get_model

from trainables.features.extractor import ahead, fold


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v2", "densenet121", "vgg11_bn", "timm/test_efficientnet",
     "timm/tf_efficientnet_lite0"],
)  # fmt: skip
def test_folding_does_not_change_the_function(name: str) -> None:
    torch.manual_seed(0)
    plain = name.removeprefix("timm/")
    network = timm.create_model(plain) if plain != name else get_model(name, weights=None)
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
    folded = fold(network, 64)
    images = torch.randn(2, 3, 64, 64)
    wanted, found = network(images), folded(images)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    if name != "densenet121":  # its norms come before the convolutions
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


class Untraceable(nn.Module):
    """Does one thing or another, as the numbers say."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pointless."""
        return images if images.sum() > 0 else -images


def test_what_cannot_be_traced_is_left_alone() -> None:
    network = Untraceable()
    assert fold(network, 8) is network


def test_results_come_in_order_and_a_few_ahead() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(job: int) -> int:
        with lock:
            begun.append(job)
        return job * job

    with ThreadPoolExecutor(3) as pool:
        results = ahead(pool, work, range(100), depth=4)
        assert next(results) == 0
        assert len(begun) <= 6, "memory would grow with the number of jobs"
        assert list(results) == [job * job for job in range(1, 100)]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def work(job: int) -> int:
        if job == 3:
            raise ValueError("damaged image")
        return job

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="damaged image"):
        list(ahead(pool, work, range(10), depth=2))

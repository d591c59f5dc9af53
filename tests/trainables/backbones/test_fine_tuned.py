"""Frozen backbones under a new head."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, mobilenet_v2, resnet18, resnet34

from trainables.average import shadow, trained_tensors
from trainables.backbones.fine_tuned import FineTuned, make_head
from trainables.backbones.networks import load_backbone
from trainables.backbones.stages import stages
from trainables.backbones.weights import fill

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def small_network(unfreeze: int = 0) -> FineTuned:
    torch.manual_seed(0)
    backbone, features = load_backbone("resnet18", "random")
    return FineTuned(backbone, make_head(features, 16, 0.0, 5), unfreeze)


def test_resnet34_features_equal_torchvisions(tmp_path: Path) -> None:
    theirs = resnet34().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet34.pth")
    backbone, features = load_backbone("resnet34", str(tmp_path / "resnet34.pth"))
    assert features == 512
    ours = FineTuned(backbone, theirs.fc).eval()
    assert torch.equal(ours(IMAGES), theirs(IMAGES))


def test_notes_head() -> None:
    shapes = [tuple(p.shape) for p in make_head(512, 256, 0.0, 120).parameters()]
    assert shapes == [(256, 512), (256,), (120, 256), (120,)]
    assert [type(m).__name__ for m in make_head(512, 256, 0.5, 120)] == [
        "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip
    plain = make_head(512, 0, 0.5, 120)
    assert [tuple(p.shape) for p in plain.parameters()] == [(120, 512), (120,)]


def test_file_of_2017_without_batch_counters_loads(tmp_path: Path) -> None:
    theirs = resnet18().eval()
    old = OrderedDict(
        (key, tensor)
        for key, tensor in theirs.state_dict().items()
        if not key.endswith("num_batches_tracked")
    )
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    backbone, _ = load_backbone("resnet18", str(tmp_path / "old.pth"))
    assert torch.equal(FineTuned(backbone, theirs.fc).eval()(IMAGES), theirs(IMAGES))


def test_safetensors_and_missing_last_layer(tmp_path: Path) -> None:
    theirs = mobilenet_v2().eval()
    tensors = {k: t.clone() for k, t in theirs.state_dict().items() if k.startswith("features.")}
    save_file(tensors, tmp_path / "features.safetensors")
    backbone, features = load_backbone("mobilenet_v2", str(tmp_path / "features.safetensors"))
    assert features == 1280
    expected = theirs.features(IMAGES).mean((2, 3))
    torch.testing.assert_close(backbone.eval()(IMAGES), expected)


def test_shared_mobilenet_weights(shared_data: Path) -> None:
    weights = shared_data / "weights" / "mobilenet_v2_features_torchvision_layout.pt"
    backbone, _ = load_backbone("mobilenet_v2", str(weights))
    own = torch.load(weights, weights_only=True)
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[key], own[key]) for key in own)


@pytest.mark.parametrize("kind", ["other", "truncated", "text", "list", "torn_safetensors"])
def test_unusable_weights_are_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("w.safetensors" if kind == "torn_safetensors" else "w.pth")
    if kind == "other":
        torch.save(resnet34().state_dict(), path)
    if kind == "truncated":
        torch.save(resnet18().state_dict(), path)
        path.write_bytes(path.read_bytes()[:100_000])
    if kind in ("text", "torn_safetensors"):
        path.write_text("no weights")
    if kind == "list":
        torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"^weights=[^\n]*$") as raised:
        load_backbone("resnet18", str(path))
    assert str(path) in str(raised.value)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "whole_model.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        load_backbone("resnet18", str(tmp_path / "whole_model.pth"))


def test_network_that_does_not_end_in_a_linear_layer() -> None:
    with pytest.raises(ValueError, match="backbone=squeezenet1_1 ends in .*not in a linear layer"):
        load_backbone("squeezenet1_1", "random")


@pytest.mark.parametrize(
    "name", ["densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf",
             "shufflenet_v2_x0_5", "swin_t"],
)  # fmt: skip
def test_any_family_gives_the_features_of_its_last_layer(name: str) -> None:
    theirs = get_model(name, weights=None).eval()
    last = list(theirs.modules())[-1]
    assert isinstance(last, nn.Linear)
    seen: list[torch.Tensor] = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    theirs(IMAGES)
    backbone, features = load_backbone(name, "random")
    fill(backbone, {k: v for k, v in theirs.state_dict().items() if k in backbone.state_dict()}, "")
    assert features == last.in_features
    assert torch.equal(backbone.eval()(IMAGES), seen[0])
    assert len(stages(backbone)) >= 4


def train_a_little(network: FineTuned) -> None:
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        network.train()
        network(IMAGES).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("unfreeze", [0, 1, 2])
def test_frozen_means_frozen(unfreeze: int) -> None:
    network = small_network(unfreeze)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    train_a_little(network)
    changed = {
        k for k, tensor in network.state_dict().items() if not torch.equal(tensor, before[k])
    }
    trained = tuple(f"backbone.layer{4 - i}." for i in range(unfreeze))
    assert changed
    assert all(key.startswith(("head.", *trained)) for key in changed)
    assert set(trained_tensors(network)) == {
        key for key in before if key.startswith(("head.", *trained))
    }
    for stage in trained:  # its BatchNorm learns
        assert any(key.startswith(stage) and "running_mean" in key for key in changed)


def test_frozen_batch_norm_ignores_the_rest_of_the_batch() -> None:
    network = small_network().train()
    torch.testing.assert_close(network(IMAGES)[:1], network(IMAGES[:1]))


def test_no_gradient_flows_into_frozen_parts() -> None:
    network = small_network(unfreeze=1).train()
    network(IMAGES).sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == (not name.startswith(("head.", "backbone.layer4.")))


def test_unfreeze_everything_and_beyond() -> None:
    count = len(stages(resnet18()))
    backbone, _ = load_backbone("resnet18", "random")
    assert count == len(stages(backbone)) + 1  # the last layer is gone
    everything = small_network(unfreeze=count - 1)
    assert all(parameter.requires_grad for parameter in everything.parameters())
    with pytest.raises(ValueError, match="has only 6 stages"):
        small_network(unfreeze=count)


def test_features_go_to_the_head_directly() -> None:
    network = small_network().eval()
    features = network.backbone(IMAGES)
    assert torch.equal(network(features), network(IMAGES))


def test_shadow_shares_frozen_tensors_only() -> None:
    network = small_network(unfreeze=1)
    copy = shadow(network)
    assert isinstance(copy, FineTuned)
    trained = trained_tensors(network).keys()
    theirs = copy.state_dict()
    for key, tensor in network.state_dict().items():
        assert (theirs[key].data_ptr() == tensor.data_ptr()) == (key not in trained), key
    assert [p.requires_grad for p in copy.parameters()] == [
        p.requires_grad for p in network.parameters()
    ]

"""The three tasks' models and trainings on real images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet34
from torchvision.transforms import v2

from tests.packed_folders import pil_image, write_cifar10, write_digits, write_dogs
from trainables import cifar10, digits, dog_breed
from trainables.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from trainables.config import DogBreedConfig
from trainables.data import TaskData, without_images
from trainables.large_images import LargeImages, load_large_images
from trainables.loop import fit, predict
from trainables.small_images import SmallImages


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    return write_cifar10(tmp_path_factory.mktemp("cifar10"), shared_data)


@pytest.fixture(scope="module")
def dog_folder(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    return write_dogs(tmp_path_factory.mktemp("dogs"), shared_data)


@pytest.fixture(scope="module")
def dog_config(tmp_path_factory: pytest.TempPathFactory) -> DogBreedConfig:
    """A real architecture with random weights in the file's layout, at a small size."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), path)
    return dataclasses.replace(
        dog_breed.CONFIG, backbone="resnet18", weights=str(path), image_size=64, batch_size=8,
        num_epochs=3, device="cpu", precision="float32",
    )  # fmt: skip


def test_resnet18_equals_torchvisions_with_the_same_weights() -> None:
    """torchvision's network with the notes' stem, and the notes' shapes."""
    ours = cifar10.build_model(cifar10.CONFIG, 10).eval()
    theirs = resnet18(num_classes=10).eval()
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(ours(images), theirs(images))
    stem = ours.conv1
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))
    assert ours.layer1(ours.relu(ours.bn1(stem(images)))).shape == (4, 64, 32, 32)
    assert [len(stage) for stage in (ours.layer1, ours.layer2, ours.layer3, ours.layer4)] == [2] * 4
    assert sum(p.numel() for p in ours.parameters()) == 11_173_962
    assert not any(p.bias is not None for p in ours.modules() if isinstance(p, nn.Conv2d))


def test_whitened_stem_makes_patches_uncorrelated() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 3, 34, 34, generator=generator)
    images = (
        noise[:, :, 2:, 2:] + noise[:, :, 1:-1, 2:] + noise[:, :, 2:, 1:-1] + noise[:, :1, 2:, 2:]
    )
    stem = cifar10.build_model(cifar10.CONFIG, 10).conv1
    untouched = stem.weight[54:].clone()
    cifar10.whiten(stem, images)
    with torch.no_grad():
        out = nn.functional.conv2d(images, stem.weight).transpose(0, 1).flatten(1)
    covariance = out[:27] @ out[:27].T / out.shape[1]
    assert torch.allclose(covariance, torch.eye(27) / 4, atol=0.02)
    assert torch.equal(stem.weight[27:54], -stem.weight[:27])
    assert torch.equal(stem.weight[54:], untouched)


def test_resnet34_task_equals_torchvisions_with_the_same_weights(tmp_path: Path) -> None:
    theirs = resnet34().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet34-333f7ec4.pth")
    config = dataclasses.replace(
        dog_breed.CONFIG, weights=str(tmp_path / "resnet34-333f7ec4.pth"), hidden=0
    )
    ours = dog_breed.build_model(config, without_images(tuple(map(str, range(120))), (), ())).eval()
    theirs.fc = ours.head[1]  # type: ignore[index]
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


def test_cifar10_learns_its_first_images(cifar_folder: Path) -> None:
    config = dataclasses.replace(
        cifar10.CONFIG, device="cpu", num_epochs=2, batch_size=32, lr=0.01, margin=2
    )
    data = cifar10.load_data(cifar_folder, config)
    state = cifar10.start(config, data)
    rows = list(fit(state, data.train, data.valid, config))
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    probabilities = predict(state.model, data.test, config)
    assert probabilities.shape == (10, len(data.classes))
    image, _ = next(iter(data.train.train_batches(32, 1, 0)))
    assert image.is_contiguous(memory_format=torch.channels_last)
    weight = state.network.get_parameter("conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_cifar10_evaluation_equals_the_notes_transform(cifar_folder: Path) -> None:
    data = cifar10.load_data(cifar_folder, cifar10.CONFIG)
    source = data.test
    assert isinstance(source, SmallImages)
    notes = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)]
    )
    expected = torch.stack([notes(pil_image(image)) for image in source.images.numpy()])
    found = torch.cat([images.cpu() for images, _ in source.eval_batches(4)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_digits_reach_a_good_accuracy(tmp_path: Path) -> None:
    config = dataclasses.replace(digits.CONFIG, device="cpu")
    data = digits.load_data(write_digits(tmp_path, 1433), config)
    state = digits.start(config, data)
    last = list(fit(state, data.train, data.valid, config))[-1]
    assert last["valid_acc"] > 0.96


def dogs(folder: Path, config: DogBreedConfig) -> tuple[TaskData, LargeImages]:
    """From images, whether or not the backbone is frozen (features have tests of their own)."""
    data = load_large_images(folder, config)
    assert isinstance(data.train, LargeImages)
    return data, data.train


def test_dogs_are_split_and_of_several_sizes(dog_folder: Path, dog_config: DogBreedConfig) -> None:
    data, train = dogs(dog_folder, dog_config)
    assert len(data.train) + len(data.valid) == len(data.train_valid) == 32
    assert len({tuple(shape) for shape in train.shapes.tolist()}) > 3
    assert len(data.test) == len(data.test_ids) == 6


def test_dog_evaluation_equals_the_notes_transform(
    dog_folder: Path, dog_config: DogBreedConfig
) -> None:
    config = dataclasses.replace(dog_config, image_size=224)
    data, _ = dogs(dog_folder, config)
    valid = data.valid
    assert isinstance(valid, LargeImages)
    notes = v2.Compose(
        [
            v2.Resize(256, antialias=True),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    expected = torch.stack(
        [notes(pil_image(valid.image(row).permute(1, 2, 0).numpy())) for row in valid.rows.tolist()]
    )
    found = torch.cat([images for images, _ in valid.eval_batches(3)])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)  # PIL rounds a resize by itself
    assert torch.equal(found[:1], next(iter(valid.eval_batches(1)))[0])


def test_dog_views_do_not_depend_on_batches_or_order(
    dog_folder: Path, dog_config: DogBreedConfig
) -> None:
    _, train = dogs(dog_folder, dog_config)

    def by_image(batch_size: int, epoch: int, seed: int) -> set[bytes]:
        batches = train.train_batches(batch_size, epoch, seed)
        return {image.numpy().tobytes() for images, _ in batches for image in images}

    first = by_image(5, 1, seed=0)
    assert len(first) == len(train)
    assert by_image(24, 1, seed=9) == first
    assert not by_image(5, 2, seed=0) & first


def test_views_repeat_after_num_views(dog_folder: Path, dog_config: DogBreedConfig) -> None:
    _, train = dogs(dog_folder, dataclasses.replace(dog_config, num_views=2))

    def pixels(epoch: int) -> set[bytes]:
        return {
            i.numpy().tobytes() for batch, _ in train.train_batches(99, epoch, 0) for i in batch
        }

    assert pixels(1) == pixels(3) != pixels(2) == pixels(4)
    _, train = dogs(dog_folder, dog_config)
    assert train.num_views == dog_config.num_epochs


@pytest.mark.parametrize("unfreeze", [0, 1])
def test_dog_training_is_exact_and_keeps_the_frozen_part(
    dog_folder: Path, dog_config: DogBreedConfig, tmp_path: Path, unfreeze: int
) -> None:
    config = dataclasses.replace(dog_config, unfreeze=unfreeze, dropout=0.3, lr=0.01)
    data, _ = dogs(dog_folder, config)
    state = dog_breed.start(config, data)
    before = {key: tensor.clone() for key, tensor in state.model.state_dict().items()}
    rows = []
    for row in fit(state, data.train, data.valid, config):
        rows.append(row)
        if row["epoch"] == 2:
            state.save(tmp_path / "state.pt")
    trained = ("head.", "backbone.layer4.") if unfreeze else ("head.",)
    for key, tensor in state.model.state_dict().items():
        assert key.startswith(trained) or torch.equal(tensor, before[key]), key
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    resumed = dog_breed.start(config, data)
    resumed.load(tmp_path / "state.pt")
    (last,) = fit(resumed, data.train, data.valid, config)
    assert {**last, "seconds": 0} == {**rows[-1], "seconds": 0}
    if not unfreeze:  # a checkpoint holds the head, not the 45 MB of the backbone
        assert (tmp_path / "state.pt").stat().st_size < 3_000_000


def test_other_dog_images(dog_folder: Path, dog_config: DogBreedConfig) -> None:
    data, _ = dogs(dog_folder, dog_config)
    test = data.test
    assert isinstance(test, LargeImages)
    other = dog_breed.images_data(test.pixels.numpy(), test.shapes, data, dog_config)
    ours, theirs = (next(iter(source.eval_batches(9)))[0] for source in (other, test))
    assert torch.equal(ours, theirs)

"""Batched augmentation against torchvision's transforms of single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from trainables.augment import Augmentation, Draws, Normaliser, augment, draw, grow, in_turns

PADDED = Augmentation("pad", 4, flip=True)
RESIZED = Augmentation("resize", 4, flip=True)
REFLECTED = Augmentation("reflect", 4, flip=True)


def random_images(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def draws_of(augmentation: Augmentation, count: int, seed: int = 0) -> Draws:
    return draw(augmentation, count, torch.Generator().manual_seed(seed))


def by_torchvision(
    image: Tensor, augmentation: Augmentation, top: int, left: int, flip: bool
) -> Tensor:
    """One image, uint8 (H, W, 3), with the same random numbers."""
    chw: Tensor = image.permute(2, 0, 1)
    height, width = chw.shape[1:]
    margin = augmentation.margin
    if augmentation.crop == "pad":
        chw = functional.pad(chw, [margin] * 4)
    elif augmentation.crop == "reflect":
        chw = functional.pad(chw, [margin] * 4, padding_mode="reflect")
    else:
        chw = functional.resize(chw, [height + 2 * margin, width + 2 * margin], antialias=True)
    chw = functional.crop(chw, top, left, height, width)
    if flip:
        chw = functional.horizontal_flip(chw)
    return chw.permute(1, 2, 0)


@pytest.mark.parametrize("augmentation", [PADDED, RESIZED, REFLECTED])
@pytest.mark.parametrize("size", [(32, 32), (8, 12)])
def test_batch_equals_torchvision_one_by_one(
    augmentation: Augmentation, size: tuple[int, int]
) -> None:
    images = random_images(40, *size)
    draws = draws_of(augmentation, 40)
    batch = augment(images.clone(), augmentation, draws)
    assert batch.shape == images.shape
    assert batch.dtype == torch.uint8
    for i, image in enumerate(images):
        top, left = draws.offsets[i].tolist()
        single = by_torchvision(image, augmentation, top, left, bool(draws.mirrored[i]))
        assert torch.equal(batch[i], single), i


def test_batch_equals_own_one_by_one_and_any_split() -> None:
    images = random_images(13)
    draws = draws_of(PADDED, 13)
    whole = augment(images.clone(), PADDED, draws)
    for size in (1, 5):
        parts = [
            augment(images[rows].clone(), PADDED, draws.of(rows))
            for rows in torch.arange(13).split(size)
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_distribution_is_that_of_random_crop_and_flip() -> None:
    draws = draws_of(PADDED, 40_000)
    cells = draws.offsets[:, 0] * 9 + draws.offsets[:, 1]
    counts = np.bincount(cells.numpy(), minlength=81)
    assert len(counts) == 81
    assert chisquare(counts).pvalue > 1e-4
    mirrored = draws.mirrored.float()
    assert abs(mirrored.mean().item() - 0.5) < 0.01
    with_offset = torch.stack([mirrored, draws.offsets[:, 0].float(), draws.offsets[:, 1].float()])
    correlation = torch.corrcoef(with_offset) - torch.eye(3)
    assert correlation.abs().max() < 0.02


def test_torchvisions_own_draws_have_the_same_range() -> None:
    marked = torch.arange(40 * 40, dtype=torch.int32).reshape(1, 40, 40)
    corners = {int(v2.RandomCrop(32)(marked)[0, 0, 0]) for _ in range(2000)}
    ours = draws_of(PADDED, 2000).offsets
    assert corners == {int(top * 40 + left) for top, left in ours.tolist()}


def test_nothing_to_do_leaves_images_as_they_are() -> None:
    images = random_images(9)
    nothing = Augmentation()
    draws = draws_of(nothing, 9)
    assert not draws.mirrored.any()
    assert torch.equal(augment(images.clone(), nothing, draws), images)


def test_normalise_equals_torchvision() -> None:
    mean, std = [0.4731, 0.4822, 0.4465], [0.2212, 0.1994, 0.2010]
    images = random_images(6, 8, 12)
    ours = Normaliser(mean, std)(images)
    scaled = v2.ToDtype(torch.float32, scale=True)(images.permute(0, 3, 1, 2))
    torch.testing.assert_close(ours, v2.Normalize(mean, std)(scaled), rtol=0, atol=2e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_normalise_survives_a_constant_channel() -> None:
    images = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert torch.equal(Normaliser([0.0, 0, 0], [0.0, 0, 0])(images), torch.zeros(2, 3, 4, 4))


def test_reflection_wider_than_the_image_is_numpys() -> None:
    images = random_images(3, 4, 5)
    augmentation = Augmentation("reflect", 9)
    widths = ((0, 0), (9, 9), (9, 9), (0, 0))
    expected = np.pad(images.numpy(), widths, mode="reflect")
    assert np.array_equal(grow(images, augmentation).numpy(), expected)
    one = random_images(3, 1, 1)
    assert torch.equal(grow(one, augmentation), one.expand(3, 19, 19, 3))


def test_flips_in_turns_show_each_image_both_ways_in_two_epochs() -> None:
    draws = draws_of(Augmentation("pad", 4, flip=True, alternate=True), 1000)

    def turn(epoch: int) -> Draws:
        return in_turns(draws, epoch, torch.Generator().manual_seed(5))

    first, second, third = turn(1), turn(2), turn(3)
    assert torch.equal(first.mirrored, ~second.mirrored)
    assert torch.equal(first.mirrored, third.mirrored)
    assert 430 < int(first.mirrored.sum()) < 570  # 500 +- 4.4 standard deviations
    assert torch.equal(first.offsets, draws.offsets)

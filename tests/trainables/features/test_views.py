"""Views of large images: pure, and distributed as torchvision's transforms."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from trainables.features.views import (
    View,
    ViewSettings,
    cut_thin,
    draw_view,
    eval_view,
    render_view,
)

SETTINGS = ViewSettings(min_area=0.08, jitter=0.4, seed=0)
SIZE = (256, 341)


def picture(height: int, width: int) -> torch.Tensor:
    """Something smooth with noise, uint8 (3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(3, 16, 16, generator=generator)
    large = torch.nn.functional.interpolate(small[None], (height, width), mode="bilinear")[0]
    noise = torch.rand(3, height, width, generator=generator)
    return ((0.8 * large + 0.2 * noise) * 255).to(torch.uint8)


def test_view_depends_on_seed_id_and_number_only() -> None:
    first = draw_view(SETTINGS, "a", 0, *SIZE)
    torch.manual_seed(5)
    assert draw_view(SETTINGS, "a", 0, *SIZE) == first
    others = [
        draw_view(SETTINGS, "a", 1, *SIZE),
        draw_view(SETTINGS, "b", 0, *SIZE),
        draw_view(ViewSettings(0.08, 0.4, seed=1), "a", 0, *SIZE),
    ]
    assert len({first, *others}) == 4


def test_view_is_the_same_on_every_machine() -> None:
    """A golden value: stored features are found by it."""
    view = draw_view(SETTINGS, "000bec180eb18c7604dcecc8fe0dba07", 3, 256, 341)
    numbers = (view.top, view.left, view.height, view.width, view.mirrored, view.order)
    assert numbers == (5, 135, 239, 192, True, (2, 1, 0))
    colours = (view.brightness, view.contrast, view.saturation)
    assert colours == pytest.approx((0.712433938029, 1.250292648078, 1.245641858592), abs=1e-11)


def test_crop_distribution_equals_torchvision() -> None:
    views = [draw_view(SETTINGS, str(i), 0, *SIZE) for i in range(4000)]
    torch.manual_seed(0)
    theirs_transform = v2.RandomResizedCrop(224, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    image = torch.zeros(3, *SIZE, dtype=torch.uint8)
    theirs = [theirs_transform.make_params([image]) for _ in range(4000)]
    for name in ("top", "left", "height", "width"):
        ours = [getattr(view, name) for view in views]
        assert ks_2samp(ours, [params[name] for params in theirs]).pvalue > 1e-4, name
    area = [view.height * view.width for view in views]
    assert ks_2samp(area, [p["height"] * p["width"] for p in theirs]).pvalue > 1e-4
    aspect = [view.width / view.height for view in views]
    assert ks_2samp(aspect, [p["width"] / p["height"] for p in theirs]).pvalue > 1e-4


def test_colour_and_flip_distribution_equals_torchvision() -> None:
    views = [draw_view(SETTINGS, str(i), 1, *SIZE) for i in range(4000)]
    jitter = v2.ColorJitter(0.4, 0.4, 0.4)
    torch.manual_seed(0)
    theirs = [jitter.make_params([]) for _ in range(4000)]
    for name in ("brightness", "contrast", "saturation"):
        ours = [getattr(view, name) for view in views]
        assert ks_2samp(ours, [p[f"{name}_factor"] for p in theirs]).pvalue > 1e-4, name
    assert abs(sum(view.mirrored for view in views) / 4000 - 0.5) < 0.04
    orders = [view.order for view in views]
    assert len(set(orders)) == 6
    assert all(abs(orders.count(order) / 4000 - 1 / 6) < 0.03 for order in set(orders))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 2), (30, 256), (256, 256)])
def test_crop_lies_inside_any_image(size: tuple[int, int]) -> None:
    for number in range(50):
        view = draw_view(SETTINGS, "x", number, *size)
        assert 0 <= view.top <= view.top + view.height <= size[0]
        assert 0 <= view.left <= view.left + view.width <= size[1]
        assert view.height > 0
        assert view.width > 0


def test_crop_reaches_every_place() -> None:
    views = [draw_view(SETTINGS, "x", number, 4, 4) for number in range(2000)]
    for size in (1, 2, 3, 4):
        places = set(range(4 - size + 1))
        assert {view.top for view in views if view.height == size} == places
        assert {view.left for view in views if view.width == size} == places


def test_long_image_falls_back_to_the_centre_as_torchvision() -> None:
    theirs = v2.RandomResizedCrop(224, scale=(0.9, 1.0)).make_params([torch.zeros(3, 100, 1000)])
    view = draw_view(ViewSettings(0.9, 0.0, 0), "x", 0, 100, 1000)
    ours = {name: getattr(view, name) for name in ("top", "left", "height", "width")}
    assert ours == {name: theirs[name] for name in ours}


def test_render_equals_torchvision_step_by_step() -> None:
    image = picture(*SIZE)
    for number in range(8):
        view = draw_view(SETTINGS, "x", number, *SIZE)
        expected = functional.resized_crop(
            image, view.top, view.left, view.height, view.width, [224, 224], antialias=True
        )
        expected = functional.to_dtype(expected, torch.float32, scale=True)
        expected = expected.flip(2) if view.mirrored else expected
        for index in view.order:
            if index == 0:
                expected = functional.adjust_brightness(expected, view.brightness)
            elif index == 1:
                expected = functional.adjust_contrast(expected, view.contrast)
            else:
                expected = functional.adjust_saturation(expected, view.saturation)
        rendered = render_view(image, view, 224)
        assert rendered.dtype == torch.float32
        assert torch.equal(rendered, expected)


def test_rendered_pixels_have_torchvisions_distribution() -> None:
    image = picture(64, 80)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(32, scale=(0.08, 1), ratio=(3 / 4, 4 / 3), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4),
        ]
    )
    settings = ViewSettings(0.08, 0.4, 0)
    torch.manual_seed(0)
    theirs = torch.stack([transform(image) for _ in range(1500)]) / 255
    ours = torch.stack(
        [render_view(image, draw_view(settings, str(i), 0, 64, 80), 32) for i in range(1500)]
    )
    for channel in range(3):
        for row, column in ((0, 0), (16, 16), (31, 5)):
            a, b = ours[:, channel, row, column], theirs[:, channel, row, column]
            assert ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-4
        assert (
            ks_2samp(
                ours[:, channel].std((1, 2)).numpy(), theirs[:, channel].std((1, 2)).numpy()
            ).pvalue
            > 1e-4
        )


@pytest.mark.parametrize("size", [(256, 341), (300, 256), (100, 80)])
def test_evaluation_equals_resize_and_centre_crop(size: tuple[int, int]) -> None:
    image = picture(*size)
    expected = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])(image)
    torch.testing.assert_close(eval_view(image, 224), expected / 255)


@pytest.mark.parametrize(
    ("size", "tolerance"),
    [((32, 256), 1e-6), ((32, 384), 1e-6), ((384, 32), 1e-6), ((30, 397), 0.02)],
)
def test_evaluation_of_thin_images_equals_that_of_the_whole(
    size: tuple[int, int], tolerance: float
) -> None:
    image = picture(*size)
    expected = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])(image)
    torch.testing.assert_close(eval_view(image, 224), expected / 255, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (2, 65_535), (1365, 65_535), (1, 1)])
def test_no_image_is_made_much_larger_than_what_is_seen(size: tuple[int, int]) -> None:
    """1 x 20,000 pixels were 9.7 GB on their way to 224 x 224."""
    image = torch.zeros(3, 1, 1, dtype=torch.uint8).expand(3, *size)
    short, long = sorted(cut_thin(image).shape[1:])
    assert short == min(size)
    assert long <= 8 * short + 1
    assert eval_view(image, 224).shape == (3, 224, 224)
    view = draw_view(SETTINGS, "x", 0, *size)
    assert view.height * view.width <= 4 / 3 * min(size) ** 2 + 1
    assert render_view(image, view, 224).shape == (3, 224, 224)


def test_view_that_changes_nothing_is_the_image() -> None:
    image = picture(224, 224)
    nothing = View(0, 0, 224, 224, False, 1.0, 1.0, 1.0, (0, 1, 2))
    torch.testing.assert_close(render_view(image, nothing, 224), image / 255)

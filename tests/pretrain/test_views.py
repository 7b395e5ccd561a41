"""Batched augmentation against torchvision and slow loops, one image at a time."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from pydantic import ValidationError
from torch import Tensor
from torchvision.transforms.v2 import RandomResizedCrop

from pretrain import views
from pretrain.draws import Draws
from pretrain.views import Views, simclr_view


def pictures(count: int, height: int = 20, width: int = 24) -> Tensor:
    """Smooth colours with some noise; the first is gray, the second black, white and pure colours."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 5, 6, generator=generator)
    images = F.interpolate(coarse, (height, width), mode="bilinear")
    images = (images + 0.1 * torch.rand(count, 3, height, width, generator=generator)).clamp(0, 1)
    images[0] = images[0, :1]
    images[1] = images[1].round()
    return images


def draws(count: int, step: int = 0, rank: int = 0, world: int = 1) -> Draws:
    return Draws(3, step, count, rank, world)


@pytest.mark.parametrize(("height", "width", "size"), [(20, 24, 16), (24, 20, 30), (70, 50, 12), (33, 90, 7)])
def test_a_resized_crop_is_a_crop_that_is_resized(height: int, width: int, size: int) -> None:
    images = pictures(12, height, width)
    boxes = views.crop_boxes(draws(12), height, width, (0.1, 1), (0.5, 2))
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([height - 3, width - 2, 3, 2])
    mirrored = torch.arange(12) % 3 == 0
    found = views.crop_resize(images, boxes, size, mirrored)
    for image, (top, left, tall, wide), back, result in zip(
        images, boxes.tolist(), mirrored.tolist(), found, strict=True
    ):
        crop = image[None, :, top : top + tall, left : left + wide]
        points = max(1, -(-max(tall, wide) // (2 * size)))
        fine = F.interpolate(crop, (points * size, points * size), mode="bilinear")
        slow = fine.unfold(2, points, points).unfold(3, points, points).mean(dim=(4, 5))[0]
        torch.testing.assert_close(result, slow.flip(2) if back else slow, atol=2e-5, rtol=0)


def test_a_much_larger_image_loses_no_pixel() -> None:
    """Sampling one point of every eighth pixel would turn this texture into noise."""
    image = torch.zeros(1, 3, 64, 64)
    image[..., ::2] = 1  # fine stripes, half of the light
    box = torch.tensor([[0, 0, 64, 64]])
    found = views.crop_resize(image, box, 8, torch.tensor([False]))
    torch.testing.assert_close(found, torch.full_like(found, 0.5), atol=1e-5, rtol=0)


def test_the_whole_image_at_its_own_size_is_unchanged() -> None:
    images = pictures(4, 16, 16)
    found = views.random_resized_crop(images, draws(4), 16, (1, 1), (1, 1), flip=0)
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)
    found = views.random_resized_crop(images, draws(4), 16, (1, 1), (1, 1), flip=1)
    torch.testing.assert_close(found, images.flip(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "ratio"), [(40, 40, (3 / 4, 4 / 3)), (30, 80, (3 / 4, 4 / 3)), (40, 40, (0.4, 0.9))]
)
def test_boxes_are_spread_as_torchvision_s(height: int, width: int, ratio: tuple[float, float]) -> None:
    count, scale = 4000, (0.2, 1.0)
    found = views.crop_boxes(draws(count), height, width, scale, ratio)
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    theirs = RandomResizedCrop(8, scale, ratio)
    slow = [theirs.make_params([blank]) for _ in range(count)]
    expected = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in slow])
    assert bool((found[:, :2] >= 0).all())
    assert bool((found[:, 0] + found[:, 2] <= height).all() and (found[:, 1] + found[:, 3] <= width).all())
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    for ours, other in zip(found.T.float(), expected.T.float(), strict=True):
        gap = (ours.quantile(levels) - other.quantile(levels)).abs()
        assert float(gap.max()) <= 0.05 * max(height, width)


def test_a_box_reaches_every_place() -> None:
    found = views.crop_boxes(draws(400), 5, 5, (0.64, 0.64), (1, 1))
    assert bool((found[:, 2:] == 4).all())
    for places in found[:, :2].T:
        assert places.unique().tolist() == [0, 1] and 150 < int(places.sum()) < 250


@pytest.mark.parametrize(
    ("height", "width", "ratio"),
    [(10, 100, (0.5, 2)), (100, 10, (0.5, 2)), (40, 40, (1.0, 1.0)), (9, 12, (0.5, 1))],
)
def test_where_no_box_fits_it_is_the_middle(height: int, width: int, ratio: tuple[float, float]) -> None:
    scale = (5.0, 6.0)  # larger than the image
    found = views.crop_boxes(draws(3), height, width, scale, ratio)
    theirs = RandomResizedCrop(8, scale, ratio).make_params([torch.empty(3, height, width)])
    assert found.tolist() == [[theirs[key] for key in ("top", "left", "height", "width")]] * 3


def test_a_crop_without_resizing_copies_pixels() -> None:
    count, height, width, size = 200, 7, 9, 5
    images = torch.arange(count * 3 * height * width).view(count, 3, height, width)
    found = views.random_crop(images, draws(count), size)
    assert found.shape == (count, 3, size, size) and found.dtype == images.dtype
    seen = set()
    for image, result in zip(images, found, strict=True):
        back = bool(result[0, 0, 0] > result[0, 0, 1])
        first = int((result.flip(2) if back else result)[0, 0, 0] - image[0, 0, 0])
        top, left = divmod(first, width)
        crop = image[:, top : top + size, left : left + size]
        assert torch.equal(result, crop.flip(2) if back else crop)
        seen.add((top, left, back))
    assert len(seen) == 3 * 5 * 2  # every place, both ways round
    with pytest.raises(ValueError, match="8 pixels"):
        views.random_crop(images, draws(count), 8)


def test_flip() -> None:
    images = pictures(3)
    found = views.flip(images, torch.tensor([True, False, True]))
    assert torch.equal(found[::2], images[::2].flip(3)) and torch.equal(found[1], images[1])


ADJUST: dict[str, Any] = {
    "brightness": (views.adjust_brightness_, TF.adjust_brightness),
    "contrast": (views.adjust_contrast_, TF.adjust_contrast),
    "saturation": (views.adjust_saturation_, TF.adjust_saturation),
    "hue": (views.adjust_hue_, TF.adjust_hue),
}


@pytest.mark.parametrize("name", ADJUST)
def test_each_adjustment_is_torchvision_s(name: str) -> None:
    ours, theirs = ADJUST[name]
    values = [-0.5, -0.31, -0.01, 0.0, 0.2, 0.5] if name == "hue" else [0.0, 0.3, 0.9, 1.0, 1.4, 1.8]
    images = pictures(6)
    for turn in range(6):  # each image with each value
        turned = values[turn:] + values[:turn]
        found = ours(images.clone(), torch.tensor(turned))
        slow = torch.stack([theirs(image, value) for image, value in zip(images, turned, strict=True)])
        torch.testing.assert_close(found, slow, atol=2e-5, rtol=0)


def slow_jitter(image: Tensor, order: list[int], values: list[float]) -> Tensor:
    for operation in order:
        image = list(ADJUST.values())[operation][1](image, values[operation])
    return image


@pytest.mark.parametrize("amounts", [(0.8, 0.8, 0.8, 0.2), (0.4, 0.0, 1.6, 0.0), (0.0, 0.3, 0.0, 0.5)])
def test_jitter_is_torchvision_s_with_the_same_draws(amounts: tuple[float, float, float, float]) -> None:
    images = pictures(60)
    before = images.clone()
    found = views.colour_jitter(images, draws(60), *amounts, p=0.8)
    assert torch.equal(images, before)  # the input is not touched
    same = draws(60)
    changed, orders, drawn = same.chance(0.8), same.permutations(4), same.uniform(4)
    assert len({tuple(order) for order in orders.tolist()}) > 12
    for n, image in enumerate(images):
        values = [
            max(0.0, 1 - a) + (1 + a - max(0.0, 1 - a)) * float(u)
            for a, u in zip(amounts, drawn[n], strict=True)
        ]
        values[3] = amounts[3] * (2 * float(drawn[n, 3]) - 1)
        slow = slow_jitter(image, orders[n].tolist(), values) if changed[n] else image
        torch.testing.assert_close(found[n], slow, atol=1e-4, rtol=0)


def test_no_jitter_changes_nothing() -> None:
    images = pictures(8)
    assert torch.equal(views.colour_jitter(images, draws(8), 0.8, 0.8, 0.8, 0.2, p=0), images)
    assert torch.equal(views.colour_jitter(images, draws(8), 0, 0, 0, 0, p=1), images)


def test_gray() -> None:
    images = pictures(40)
    found = views.grayscale(images, draws(40), 0.5)
    gray = torch.stack([TF.rgb_to_grayscale(image, 3) for image in images])
    chosen = draws(40).chance(0.5)
    assert 5 < int(chosen.sum()) < 35
    torch.testing.assert_close(found[chosen], gray[chosen])
    assert torch.equal(found[~chosen], images[~chosen])


@pytest.mark.parametrize("kernel", [3, 7, 13])
def test_blur_is_torchvision_s(kernel: int) -> None:
    images = pictures(20)
    found = views.gaussian_blur(images, draws(20), 0.5, (0.1, 2), kernel)
    same = draws(20)
    chosen, sigmas = same.chance(0.5), same.uniform(1, low=0.1, high=2)
    assert 0 < int(chosen.sum()) < 20
    for image, blurred, sigma, result in zip(
        images, chosen.tolist(), sigmas[:, 0].tolist(), found, strict=True
    ):
        slow = TF.gaussian_blur(image, [kernel, kernel], [sigma, sigma]) if blurred else image
        torch.testing.assert_close(result, slow, atol=1e-5, rtol=0)


def test_a_kernel_that_does_not_fit() -> None:
    for kernel in (4, 41):
        with pytest.raises(ValueError, match=f"kernel of {kernel}"):
            views.gaussian_blur(pictures(2), draws(2), 1, kernel=kernel)


PRESETS = [Views.simclr(16), Views.moco_v1(16), Views.moco_v2(16), Views.simclr(10, jitter=0.5, blur_p=0)]


@pytest.mark.parametrize("settings", PRESETS)
def test_views_are_a_pure_function_of_the_draws(settings: Views) -> None:
    images = pictures(16)
    whole = simclr_view(images, draws(16), settings)
    assert whole.shape == (16, 3, settings.size, settings.size)
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1 + 1e-6
    torch.manual_seed(5)  # torch's own generator has no say
    assert torch.equal(simclr_view(images, draws(16), settings), whole)
    assert not torch.allclose(simclr_view(images, draws(16, step=1), settings), whole, atol=0.05)
    halves = [simclr_view(images[8 * r : 8 * r + 8], draws(8, 0, r, 2), settings) for r in (0, 1)]
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-6, rtol=0)


def test_two_views_differ() -> None:
    both = draws(8)
    images = pictures(8)
    one, two = (simclr_view(images, both, Views.simclr(16)) for _ in range(2))
    assert bool(((one - two).abs().mean(dim=(1, 2, 3)) > 0.005).all())


@pytest.mark.parametrize("settings", PRESETS[1:3])
def test_the_order_of_gray_and_jitter(settings: Views) -> None:
    """MoCo v1 makes gray first, so that the jitter can't change which pixels become bright; v2 last."""
    images = pictures(64)
    found = simclr_view(images, draws(64), settings)
    same = draws(64)
    slow = views.random_resized_crop(images, same, 16, (0.2, 1))
    if settings.gray_first:
        slow = views.grayscale(slow, same, 0.2)
        slow = views.colour_jitter(slow, same, 0.4, 0.4, 0.4, 0.4, p=1)
    else:
        slow = views.colour_jitter(slow, same, 0.4, 0.4, 0.4, 0.1, p=0.8)
        slow = views.grayscale(slow, same, 0.2)
        slow = views.gaussian_blur(slow, same, 0.5, (0.1, 2), 3)
    torch.testing.assert_close(found, slow)


@pytest.mark.parametrize(
    ("size", "kernel"), [(4, 3), (32, 3), (64, 7), (96, 9), (128, 13), (160, 17), (224, 23)]
)
def test_the_kernel_of_the_blur_is_a_tenth_of_the_side(size: int, kernel: int) -> None:
    assert Views.simclr(size).kernel == kernel
    assert Views.simclr(size, blur_kernel=5).kernel == 5


def test_settings() -> None:
    assert Views.simclr(32).amounts == pytest.approx((0.8, 0.8, 0.8, 0.2))
    assert Views.simclr(32).scale == (0.08, 1)
    assert Views.moco_v1(32).amounts == pytest.approx((0.4, 0.4, 0.4, 0.4))
    assert Views.moco_v2(32).amounts == pytest.approx((0.4, 0.4, 0.4, 0.1))
    assert Views.moco_v2(32, jitter=0, flip=0).jitter == 0
    written = Views.moco_v1(32)
    assert Views.model_validate(written.model_dump(mode="json")) == written


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale": (0.5, 0.2)}, "scale must"),
        ({"ratio": (0, 1)}, "ratio must"),
        ({"blur_sigma": (0, 1)}, "blur_sigma must"),
        ({"jitter": 3}, "hue"),
        ({"jitter": (1, 1, 1, 0.6)}, "hue"),
        ({"jitter": -1}, "jitter"),
        ({"gray_p": 1.5}, "gray_p"),
        ({"blur_kernel": 4}, "odd"),
        ({"blur_kernel": 65}, "twice the size"),
        ({"solarize": 0.1}, "solarize"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Views.simclr(32, **changes)

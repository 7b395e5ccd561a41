"""Colorization: the loss against its formula, what is seen and what isn't, and that it learns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pretrain.backbones import ResNet
from pretrain.colours import ColourBins, coarse_lab
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.hypercolumns import PlaceClassifier
from pretrain.methods import colorization
from pretrain.methods.colorization import Colorization, ColorizationSettings
from pretrain.methods.lab import gray
from pretrain.run import make_method
from pretrain.settings import schema

CONFIGS = Path(__file__).parents[3] / "configs"


def method(size: int = 32, share: float = 0.125, **settings: Any) -> Colorization:
    torch.manual_seed(0)
    backbone = ResNet("resnet18", input="l", stem_kind="small", share=share)
    return Colorization(backbone, ColorizationSettings(hidden=32, **settings), size)


def colourful(count: int, size: int) -> Tensor:
    """Images `[N, 3, size, size]` whose colours depend on their lightness."""
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, 1, 4, 4, generator=generator)
    light = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return torch.cat([light, 0.7 * (1 - light), light**2], dim=1)


def uint8(images: Tensor) -> np.ndarray:
    return images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def test_the_loss_is_the_papers() -> None:
    made = method()
    made.prepare(uint8(colourful(6, 32)), seed=0)
    views = made.views(colourful(2, 32), Draws(0, 0, 2))
    assert views["bins"].shape == views["shares"].shape == (2, 16, 16, 5)
    made.eval()
    found = made.loss(views)
    logs = made.colour_scores(views["images"]).detach().double().log_softmax(dim=1)
    centres = made.bins.centres.double()
    ab = coarse_lab(views["images"], (16, 16))[:, 1:].double()
    total, right = 0.0, 0
    for n, y, x in np.ndindex(2, 16, 16):
        squares = (centres - ab[n, :, y, x]).square().sum(dim=1)
        five = squares.argsort()[:5]
        soft = (-squares[five] / 50).exp()
        soft = soft / soft.sum()
        weight = float(made.weights[five[0]])
        total -= weight * float((soft * logs[n, five, y, x]).sum())
        right += int(logs[n, :, y, x].argmax() == five[0])
    assert found["loss"].item() == pytest.approx(total / (2 * 16 * 16), rel=1e-4)
    assert float(found["accuracy"]) == pytest.approx(right / (2 * 16 * 16))


def test_views_are_those_of_the_draws_and_split_over_processes() -> None:
    images, made = colourful(6, 40), method()
    whole = made.views(images, Draws(3, 7, 6))
    again, other = made.views(images, Draws(3, 7, 6)), made.views(images, Draws(3, 8, 6))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not torch.equal(whole["images"], other["images"])
    parts = [made.views(images[3 * r : 3 * r + 3], Draws(3, 7, 3, r, 2)) for r in range(2)]
    for key, value in whole.items():
        assert torch.equal(value, torch.cat([part[key] for part in parts])), key
    assert whole["images"].shape == (6, 3, 32, 32)


def test_the_classes_follow_the_crop() -> None:
    made = method(scale=(1.0, 1.0), flip=1.0, grid=4)
    images = torch.rand(2, 3, 32, 32)
    views = made.views(images, Draws(0, 0, 2))
    expected, _ = made.bins.encode(coarse_lab(images.flip(3), (4, 4))[:, 1:].permute(0, 2, 3, 1))
    assert torch.equal(views["bins"], expected)


def test_weights_come_from_the_images_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method()
    images = colourful(7, 32)
    assert torch.equal(made.weights, torch.ones(len(made.bins)))
    made.prepare(uint8(images), seed=0)
    counts = ColourBins().count(torch.from_numpy(uint8(images)).permute(0, 3, 1, 2) / 255, (16, 16))
    torch.testing.assert_close(made.weights, ColourBins().weights(counts, 0.5))
    other = method()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.weights, made.weights)
    monkeypatch.setattr(colorization, "PART", 2)  # counted in parts: the same
    other.prepare(uint8(images), seed=0)
    torch.testing.assert_close(other.weights, made.weights)
    monkeypatch.setattr(colorization, "COUNTED", 3)  # of many images some, spread evenly
    other.prepare(uint8(images), seed=0)
    made.prepare(uint8(images[[0, 3, 6]]), seed=0)
    torch.testing.assert_close(other.weights, made.weights)


def test_larger_stored_images_are_counted_at_the_training_scale() -> None:
    made, other = method(), method()
    images = colourful(3, 40)
    made.prepare(uint8(images), seed=0)
    counts = ColourBins().count(torch.from_numpy(uint8(images)).permute(0, 3, 1, 2) / 255, (20, 20))
    torch.testing.assert_close(made.weights, other.bins.weights(counts, 0.5))


def test_only_lightness_is_seen() -> None:
    made, images = method().eval(), colourful(2, 32)
    seen = gray(images)
    assert (seen - images).abs().max() > 0.1
    torch.testing.assert_close(made.colours(seen), made.colours(images), atol=1e-2, rtol=0)


def test_colourised_images_have_their_own_lightness() -> None:
    made = method().eval()
    images = 0.2 + 0.6 * colourful(2, 64)[:, :, :32, :]
    found = made.colourise(images)
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1
    assert not found.requires_grad
    light = coarse_lab(images, (32, 64))[:, 0]
    inside = ((found > 0) & (found < 1)).all(dim=1)
    assert inside.float().mean() > 0.7
    torch.testing.assert_close(coarse_lab(found, (32, 64))[:, 0][inside], light[inside], atol=0.05, rtol=0)
    assert made.colours(images).shape == (2, 2, 16, 32)  # as many pixels a place as in training


def test_it_learns_a_tiny_set() -> None:
    made, images = method(share=0.25, scale=(0.9, 1.0)), colourful(8, 32)
    made.prepare(uint8(images), seed=0)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    losses, accuracies = [], []
    for step in range(30):
        found = made.loss(made.views(images, Draws(0, step, 8)))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(found["loss"].item())
        accuracies.append(float(found["accuracy"]))
    assert losses[-1] < 0.5 * losses[0] < 0.5 * 1.2 * math.log(261)
    assert accuracies[-1] > 0.4
    truth = coarse_lab(images, (16, 16))[:, 1:]
    assert (made.colours(images) - truth).norm(dim=1).mean() < 0.5 * truth.norm(dim=1).mean()


def test_gradients_reach_the_whole_backbone_under_autocast() -> None:
    made = method()
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss(made.views(colourful(2, 32), Draws(0, 0, 2)))["loss"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


def test_the_head_is_one_convolution_of_enlarged_and_concatenated_maps() -> None:
    torch.manual_seed(0)
    channels, strides = {"a": 3, "b": 5, "c": 4}, {"a": 2, "b": 4, "c": 4}
    head = PlaceClassifier(channels, strides, classes=6, hidden=7).eval()
    assert head.names == ["a", "c"]  # b is as fine as c, and less deep
    maps = {"a": torch.rand(2, 3, 8, 8), "b": torch.rand(2, 5, 4, 4), "c": torch.rand(2, 4, 4, 4)}
    wide = [
        torch.nn.functional.interpolate(maps[k], size=(8, 8), mode="bilinear", align_corners=False)
        for k in head.names
    ]
    weight = torch.cat([side.weight for side in head.sides], dim=1)  # type: ignore[union-attr]
    hidden = torch.nn.functional.conv2d(torch.cat(wide, dim=1), weight)
    torch.testing.assert_close(head(maps, (8, 8)), head.out(head.norm(hidden).relu()))


@pytest.mark.parametrize(
    ("arch", "size", "grid"), [("resnet18", 32, 16), ("resnet18", 128, 32), ("vit_tiny", 32, 16)]
)
def test_it_fits_any_size_and_backbone(arch: str, size: int, grid: int) -> None:
    config = schema("colorization").model_validate(
        {"method": "colorization", "data": {"size": size}, "backbone": {"arch": arch}}
    )
    made = make_method(config)
    assert made.backbone.input == "l"
    views = made.views(torch.rand(2, 3, config.data.side(), config.data.side()), Draws(0, 0, 2))
    assert views["bins"].shape[1:3] == (grid, grid)
    assert torch.isfinite(made.loss(views)["loss"])


def test_pictures_show_gray_coloured_and_true() -> None:
    made, images = method().eval(), colourful(4, 32)
    (picture,) = made.pictures(images, Draws(0, 0, 4))
    assert picture.image.shape == (2 * 32 + 2, 6 * 34 - 2, 3) and picture.image.dtype == np.uint8
    first, second, third = (picture.image[:32, left : left + 32] for left in (0, 34, 68))
    assert np.ptp(first.astype(int), axis=2).max() <= 1
    assert not np.array_equal(first, second)
    assert np.array_equal(third, uint8(images)[0])


MISTAKES = {
    "colorization.scale=[0.9,0.5]": "scale",
    "colorization.scale=[0,1]": "scale",
    "colorization.mix=0": "mix",
    "colorization.flip=1.5": "flip",
    "colorization.temperature=0": "temperature",
    "colorization.hidden=0": "hidden",
    "colorization.mixx=0.5": "mix",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_settings_out_of_range_are_one_sentence(override: str) -> None:
    with pytest.raises(InputError, match=MISTAKES[override]) as raised:
        load_config(schema("colorization"), "pretrain/colorization", [override], CONFIGS)
    assert "\n" not in str(raised.value)


def test_more_places_than_pixels_are_refused() -> None:
    assert method(grid=32).grid == 32
    with pytest.raises(InputError, match=r"grid=33 .* at most 32"):
        method(grid=33)

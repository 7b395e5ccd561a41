"""Rotation: exact turns, the loss against its formula, and that it learns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pretrain.backbones import ResNet
from pretrain.catalogue import Backbone, make_backbone
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.rotation import Rotation, RotationSettings, all_turns, turn
from pretrain.settings import schema
from pretrain.views import random_resized_crop

CONFIGS = Path(__file__).parents[3] / "configs"


def method(size: int = 16, **settings: Any) -> Rotation:
    torch.manual_seed(0)
    backbone = ResNet("resnet18", stem_kind="small", share=0.125)
    return Rotation(backbone, RotationSettings(**settings), size)


def slow_turn(image: Tensor, quarters: int) -> Tensor:
    """Counter-clockwise, pixel by pixel."""
    for _ in range(quarters % 4):
        side = image.shape[-1]
        turned = torch.empty_like(image)
        for y in range(side):
            for x in range(side):
                turned[:, side - 1 - x, y] = image[:, y, x]
        image = turned
    return image


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, -1, -2, -3])
def test_a_turn_moves_each_pixel_to_its_place(quarters: int) -> None:
    image = torch.rand(3, 5, 5)
    assert torch.equal(turn(image, quarters), slow_turn(image, quarters))
    assert torch.equal(turn(turn(image, quarters), -quarters), image)


def test_all_four_rotations_of_each_image_are_in_the_batch() -> None:
    images = torch.rand(3, 3, 6, 6)
    views = all_turns(images)
    assert views["turns"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for place, (view, quarters) in enumerate(zip(views["images"], views["turns"].tolist(), strict=True)):
        assert torch.equal(view, slow_turn(images[place % 3], quarters))


def test_a_crop_is_the_same_in_all_its_rotations() -> None:
    views = method(size=12).views(torch.rand(5, 3, 20, 20), Draws(0, 0, 5))
    assert views["images"].shape == (20, 3, 12, 12)
    upright = views["images"][:5]
    for quarters in range(1, 4):
        turned = views["images"][5 * quarters : 5 * (quarters + 1)]
        assert torch.equal(turn(turned, -quarters), upright)
    assert not torch.equal(upright[0], upright[1])


@pytest.mark.parametrize(("scale", "flip"), [((0.5, 1.0), 0.5), ((0.1, 0.2), 0.0), ((1.0, 1.0), 1.0)])
def test_crops_are_as_the_settings_say(scale: tuple[float, float], flip: float) -> None:
    images = torch.rand(5, 3, 20, 20)
    upright = method(scale=scale, flip=flip).views(images, Draws(0, 4, 5))["images"][:5]
    assert torch.equal(upright, random_resized_crop(images, Draws(0, 4, 5), 16, scale, flip=flip))


def test_views_are_those_of_the_draws_and_split_over_processes() -> None:
    images, made = torch.rand(6, 3, 20, 20), method()
    whole = made.views(images, Draws(3, 7, 6))["images"]
    assert torch.equal(whole, made.views(images, Draws(3, 7, 6))["images"])
    assert not torch.equal(whole, made.views(images, Draws(3, 8, 6))["images"])
    parts = [
        made.views(images[3 * rank : 3 * rank + 3], Draws(3, 7, 3, rank, 2))["images"] for rank in range(2)
    ]
    joined = torch.cat([part.unflatten(0, (4, 3)) for part in parts], dim=1).flatten(0, 1)
    assert torch.equal(joined, whole)


def test_the_loss_is_the_cross_entropy_of_four_answers() -> None:
    made = method().eval()
    views = all_turns(torch.rand(2, 3, 16, 16))
    found = made.loss(views)
    losses, right = [], []
    for image, answer in zip(views["images"], views["turns"].tolist(), strict=True):
        features = made.backbone(image[None])["layer4"][0].mean(dim=(1, 2))
        scores = (made.head.weight @ features + made.head.bias).tolist()
        losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[answer])
        right.append(scores.index(max(scores)) == answer)
    assert float(found["loss"].detach()) == pytest.approx(sum(losses) / 8, rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx(sum(right) / 8)


@pytest.mark.parametrize("size", [32, 128])
def test_it_computes_at_small_and_large_sizes_in_half_precision(size: int) -> None:
    made = Rotation(make_backbone(Backbone(), size), RotationSettings(), size)
    views = made.views(torch.rand(1, 3, size, size), Draws(0, 0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = made.loss(views)["loss"]
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert made.backbone.conv1.weight.grad is not None and made.backbone.conv1.weight.grad.abs().max() > 0


def test_it_learns_a_few_images_by_heart_and_shows_it() -> None:
    made = method(scale=(0.9, 1.0))
    images = torch.rand(8, 3, 16, 16) * torch.linspace(0, 1, 16)[:, None]  # bright below
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    first = float(made.loss(made.views(images, Draws(0, 0, 8)))["loss"].detach())
    for step in range(30):
        found = made.loss(made.views(images, Draws(0, step, 8)))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert found["accuracy"] > 0.9 and found["loss"] < 0.5 * first
    made.eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    [picture] = made.pictures(images, Draws(0, 99, 8))
    assert picture.image.shape == (2 * 16 + 2, 8 * 16 + 7 * 2, 3) and picture.image.dtype.name == "uint8"
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert "8 of 8 right" in picture.caption
    for place in range(8):  # each beside the image as it was: turned back by what was found
        top, left = place // 4 * 18, place % 4 * 36 + 18
        shown = torch.from_numpy(picture.image[top : top + 16, left : left + 16]).permute(2, 0, 1)
        assert torch.equal(shown, images[place].mul(255).round().byte())


@pytest.mark.parametrize(
    "wrong",
    ["scale=[0.8,0.5]", "scale=[0,1]", "scale=[0.5,1.2]", "scale=0.5", "flip=1.5", "flip=-1", "turns=4"],
)
def test_settings_out_of_range_are_one_sentence(wrong: str) -> None:
    with pytest.raises(InputError, match=rf"^config pretrain/rotation: .*rotation\.{wrong[:4]}[^\n]*$"):
        load_config(schema("rotation"), "pretrain/rotation", [f"rotation.{wrong}"], CONFIGS)

"""Split brain: the losses against their formulas, what each half sees, and that it learns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.backbones import save_backbone
from pretrain.catalogue import build_any
from pretrain.colours import coarse_lab, join
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.lab import gray
from pretrain.methods.split_brain import SplitBrain, SplitBrainSettings
from pretrain.pair import Pair
from pretrain.run import make_method
from pretrain.settings import schema

CONFIGS = Path(__file__).parents[3] / "configs"


def method(size: int = 32, share: float = 0.125, **settings: Any) -> SplitBrain:
    torch.manual_seed(0)
    backbone = Pair("resnet18", stem_kind="small", share=share)
    return SplitBrain(backbone, SplitBrainSettings(hidden=32, **settings), size)


def colourful(count: int, size: int) -> Tensor:
    """Images `[N, 3, size, size]` whose colours depend on their lightness."""
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(count))
    light = F.interpolate(coarse, size=(size, size), mode="bilinear")
    return torch.cat([light, 0.7 * (1 - light), light**2], dim=1)


def same_light(images: Tensor) -> Tensor:
    """The images with the same colours ab, all at L 50."""
    lab = coarse_lab(images, (images.shape[2], images.shape[3]))
    return join(torch.full_like(lab[:, :1], 50), 0.3 * lab[:, 1:])


def test_the_loss_is_the_sum_of_both_predictions() -> None:
    made = method(levels=20).eval()
    views = made.views(colourful(2, 40), Draws(0, 0, 2))
    found = made.loss(views)
    lab = coarse_lab(views["images"], (16, 16)).double()
    centres = made.bins.centres.double()
    colour = made.colour_scores(views["images"]).detach().double().log_softmax(dim=1)
    light = made.light_scores(views["images"]).detach().double().log_softmax(dim=1)
    assert light.shape == (2, 20, 16, 16)
    sums = {"colour": 0.0, "light": 0.0, "colour_accuracy": 0.0, "light_accuracy": 0.0}
    for n, y, x in np.ndindex(2, 16, 16):
        nearest = int((centres - lab[n, 1:, y, x]).norm(dim=1).argmin())
        level = min(19, math.floor(float(lab[n, 0, y, x]) / 5))
        sums["colour"] -= float(colour[n, nearest, y, x])
        sums["light"] -= float(light[n, level, y, x])
        sums["colour_accuracy"] += int(colour[n, :, y, x].argmax() == nearest)
        sums["light_accuracy"] += int(light[n, :, y, x].argmax() == level)
    for name, total in sums.items():
        assert found[name].item() == pytest.approx(total / 512, rel=1e-4), name
    assert found["loss"].item() == pytest.approx((found["colour"] + found["light"]).item())


def test_views_are_those_of_the_draws_and_split_over_processes() -> None:
    images, made = colourful(6, 40), method()
    whole = made.views(images, Draws(3, 7, 6))
    again, other = made.views(images, Draws(3, 7, 6)), made.views(images, Draws(3, 8, 6))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not torch.equal(whole["images"], other["images"])
    parts = [made.views(images[3 * r : 3 * r + 3], Draws(3, 7, 3, r, 2)) for r in range(2)]
    for key, value in whole.items():
        assert torch.equal(value, torch.cat([part[key] for part in parts])), key


def test_neither_half_sees_what_it_predicts() -> None:
    made, images = method().eval(), colourful(2, 32)
    torch.testing.assert_close(
        made.colour_scores(gray(images)), made.colour_scores(images), atol=1e-3, rtol=1e-3
    )
    assert (made.light_scores(gray(images)) - made.light_scores(images)).abs().max() > 0.01
    bright = same_light(images)
    dark = join(
        torch.full_like(bright[:, :1], 60), coarse_lab(bright, (32, 32))[:, 1:]
    )  # the same ab, another L
    torch.testing.assert_close(made.light_scores(bright), made.light_scores(dark), atol=1e-3, rtol=1e-3)
    assert (made.colour_scores(bright) - made.colour_scores(dark)).abs().max() > 0.01


def test_each_prediction_teaches_its_own_half() -> None:
    made = method()
    views = made.views(colourful(2, 32), Draws(0, 0, 2))
    halves: dict[str, tuple[Any, Any]] = {
        "colour": (made.backbone.light, made.colour_head),
        "light": (made.backbone.colour, made.light_head),
    }
    for name, modules in halves.items():
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = made.loss(views)[name]
        assert loss.dtype == torch.float32
        loss.backward()
        taught = {id(p) for module in modules for p in module.parameters()}
        for parameter in made.parameters():
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert reached == (id(parameter) in taught)


@pytest.mark.parametrize(
    ("levels", "light", "level"),
    [(100, 0.0, 0), (100, 0.99, 0), (100, 57.3, 57), (100, 100.0, 99), (50, 57.3, 28), (50, 100.01, 49)],
)
def test_levels_of_lightness(levels: int, light: float, level: int) -> None:
    assert method(levels=levels).levels(torch.tensor([light])).tolist() == [level]


def test_lightness_is_the_annealed_mean_of_the_levels() -> None:
    made = method(levels=10, temperature=0.5).eval()
    images = colourful(2, 32)
    found = made.lightness(images)
    share = (made.light_scores(images) / 0.5).softmax(dim=1)
    expected = sum(share[:, k : k + 1] * (10 * k + 5) for k in range(10))
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, 1, 16, 16)


def test_it_learns_a_tiny_set() -> None:
    made, images = method(share=0.25, scale=(0.9, 1.0), levels=20), colourful(8, 32)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    found = []
    for step in range(30):
        losses = made.loss(made.views(images, Draws(0, step, 8)))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        found.append({name: value.item() for name, value in losses.items()})
    assert found[0]["colour"] == pytest.approx(math.log(261), abs=1)
    assert found[0]["light"] == pytest.approx(math.log(20), abs=1)
    assert found[-1]["colour"] < 0.5 * found[0]["colour"] and found[-1]["light"] < 0.7 * found[0]["light"]
    assert found[-1]["colour_accuracy"] > 0.5 and found[-1]["light_accuracy"] > 0.25


def test_the_backbone_file_has_both_halves(tmp_path: Path) -> None:
    made = method().eval()
    save_backbone(made.trunk(), tmp_path / "backbone.safetensors")
    loaded, images = build_any(str(tmp_path / "backbone.safetensors")).eval(), colourful(2, 32)
    both, maps = loaded(images), made.backbone.light(images)
    assert both["layer4"].shape[1] == 2 * maps["layer4"].shape[1] == loaded.channels["layer4"]
    torch.testing.assert_close(both["layer4"][:, : maps["layer4"].shape[1]], maps["layer4"])


@pytest.mark.parametrize(("size", "grid"), [(32, 16), (128, 32)])
def test_it_fits_any_size(size: int, grid: int) -> None:
    config = schema("split_brain").model_validate({"method": "split_brain", "data": {"size": size}})
    made = make_method(config)
    views = made.views(torch.rand(2, 3, config.data.side(), config.data.side()), Draws(0, 0, 2))
    assert views["bins"].shape == views["levels"].shape == (2, grid, grid)
    assert torch.isfinite(made.loss(views)["loss"])


def test_a_transformer_is_refused() -> None:
    values = {"method": "split_brain", "backbone": {"arch": "vit_tiny"}}
    with pytest.raises(InputError, match=r"backbone\.arch=resnet18"):
        make_method(schema("split_brain").model_validate(values))


def test_pictures_show_both_predictions() -> None:
    made, images = method().eval(), colourful(3, 32)
    (picture,) = made.pictures(images, Draws(0, 0, 3))
    assert picture.image.shape == (2 * 32 + 2, 8 * 34 - 2, 3)
    first, coloured, light, truth = (
        picture.image[:32, left : left + 32].astype(int) for left in range(0, 136, 34)
    )
    assert np.ptp(first, axis=2).max() <= 1 and np.ptp(light, axis=2).max() <= 1
    assert not np.array_equal(first, light) and np.ptp(coloured, axis=2).max() > 1
    assert np.array_equal(truth, images[0].mul(255).round().int().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "override", ["split_brain.levels=1", "split_brain.scale=[1,0.5]", "split_brain.level=9"]
)
def test_settings_out_of_range_are_one_sentence(override: str) -> None:
    with pytest.raises(InputError, match=r"levels|scale") as raised:
        load_config(schema("split_brain"), "pretrain/split_brain", [override], CONFIGS)
    assert "\n" not in str(raised.value)

"""Jigsaw: where tiles come from, pixel by pixel; the loss against its formula; and that it learns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pretrain.backbones import ResNet
from pretrain.catalogue import Backbone, make_backbone
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.jigsaw import Jigsaw, JigsawSettings
from pretrain.permutations import distances
from pretrain.settings import schema
from pretrain.views import luma, random_crop

CONFIGS = Path(__file__).parents[3] / "configs"


def method(size: int = 48, **settings: Any) -> Jigsaw:
    torch.manual_seed(0)
    backbone = ResNet("resnet18", stem_kind="small", share=0.125)
    return Jigsaw(backbone, JigsawSettings(**({"permutations": 10, "hidden": 32} | settings)), size)


def ramps(count: int, side: int) -> Tensor:
    """Images whose channels say where a pixel is: 1000 times the row plus the column, in each."""
    steps = torch.arange(float(side))
    return (1000 * steps[:, None] + steps).expand(count, 3, side, side).clone()


def slow_puzzle(
    square: Tensor, gray: bool, place: Tensor, shifts: Tensor, order: list[int], made: Jigsaw
) -> Tensor:
    """The tiles `[9, 3, t, t]` of one square, channel by channel."""
    if gray:
        square = luma(square[None])[0].expand(3, -1, -1)
    tiles = torch.empty(9, 3, made.tile, made.tile)
    for number, cell in enumerate(order):
        for channel in range(3):
            corner = []
            for axis, start in enumerate((cell // 3 * made.cell, cell % 3 * made.cell)):
                moved = int(place[cell, axis, 0]) + (0 if gray else int(shifts[cell, axis, channel]))
                corner.append(start + min(max(moved, 0), made.cell - made.tile))
            y, x = corner
            tiles[number, channel] = square[channel, y : y + made.tile, x : x + made.tile]
    return tiles


def test_views_are_the_loop_over_tiles() -> None:
    made, images = method(shift=2), torch.rand(6, 3, 53, 53)
    views = made.views(images, Draws(1, 2, 6))
    draws = Draws(1, 2, 6)
    squares = random_crop(images, draws, 48, 0.5)
    gray, place = draws.chance(0.3), draws.integers(16 - 14 + 1, 9, 2, 1)
    shifts, answers = draws.integers(5, 9, 2, 3) - 2, draws.integers(10)
    assert torch.equal(views["answers"], answers) and 0 < int(gray.sum()) < 6
    backbone: Any = made.backbone
    for n in range(6):
        order = made.permutations[answers[n]].tolist()
        tiles = slow_puzzle(squares[n], bool(gray[n]), place[n], shifts[n], order, made)
        for number in range(9):
            for channel in range(3):
                tile = tiles[number, channel]
                expected = (tile - tile.mean()) / tile.std(correction=0)
                expected = expected * backbone.std[channel] + backbone.mean[channel]
                torch.testing.assert_close(views["tiles"][n, number, channel], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "cell", "tile", "shift"), [(27, 9, 8, 0), (32, 10, 9, 0), (128, 42, 36, 1), (224, 74, 63, 2)]
)
def test_sizes_follow_the_paper(size: int, cell: int, tile: int, shift: int) -> None:
    made = method(size)
    assert (made.cell, made.tile, made.shift) == (cell, tile, shift)


@pytest.mark.parametrize("shift", [0, 2])
def test_each_tile_lies_in_the_cell_that_the_answer_names(shift: int) -> None:
    made = method(size=57, tile=15, gray=0, flip=0, shift=shift)  # cells of 19
    count = 400
    tiles, answers = made.puzzles(ramps(count, 57), Draws(0, 0, count))
    rows, columns = tiles[..., 0, 0] // 1000, tiles[..., 0, 0] % 1000  # [N, 9, 3]
    order = made.permutations[answers]
    for found, cell in ((rows, order // 3), (columns, order % 3)):
        inside = found - 19 * cell[..., None]
        assert inside.min() == 0 and inside.max() == 19 - 15  # never beyond the cell, and up to its border
        assert sorted(inside.unique().tolist()) == [0, 1, 2, 3, 4]
        apart = inside.amax(dim=2) - inside.amin(dim=2)
        assert apart.max() == min(2 * shift, 4)
    assert torch.equal(tiles[..., -1, -1], tiles[..., 0, 0] + 14 * 1001)
    assert answers.unique().tolist() == list(range(10))


def test_gray_puzzles_have_no_colours_and_no_shifts() -> None:
    images = torch.rand(300, 3, 48, 48)
    tiles, _ = method(gray=1, shift=2).puzzles(images, Draws(0, 0, 300))
    assert torch.equal(tiles[:, :, 0], tiles[:, :, 1]) and torch.equal(tiles[:, :, 0], tiles[:, :, 2])
    tiles, _ = method(shift=0).puzzles(images, Draws(0, 0, 300))
    gray = (tiles[:, :, 0] == tiles[:, :, 1]).flatten(1).all(dim=1)
    assert 0.2 < gray.float().mean() < 0.4


def test_neither_brightness_nor_contrast_of_a_tile_reaches_the_trunk() -> None:
    made, images = method(gray=0), torch.rand(2, 3, 48, 48)
    backbone: Any = made.backbone
    seen = backbone.normalised(made.views(images, Draws(0, 0, 2))["tiles"].flatten(0, 1))
    torch.testing.assert_close(seen.mean(dim=(2, 3)), torch.zeros(18, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(dim=(2, 3), correction=0), torch.ones(18, 3), atol=1e-4, rtol=0)
    changed = images * 0.3 + torch.tensor([0.1, 0.4, 0.0])[:, None, None]
    other = backbone.normalised(made.views(changed, Draws(0, 0, 2))["tiles"].flatten(0, 1))
    torch.testing.assert_close(seen, other, atol=1e-4, rtol=1e-4)


def test_views_are_those_of_the_draws_and_split_over_processes() -> None:
    made, images = method(), torch.rand(6, 3, 53, 53)
    whole = made.views(images, Draws(3, 7, 6))
    again, other = made.views(images, Draws(3, 7, 6)), made.views(images, Draws(3, 8, 6))
    parts = [made.views(images[3 * rank : 3 * rank + 3], Draws(3, 7, 3, rank, 2)) for rank in range(2)]
    for name, value in whole.items():
        assert torch.equal(value, again[name]) and not torch.equal(value, other[name])
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_the_loss_is_the_cross_entropy_of_the_permutations() -> None:
    made = method(27).eval()
    norm = made.head[1]
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    norm.weight.data.normal_(), norm.bias.data.normal_()
    views = made.views(torch.rand(3, 3, 27, 27), Draws(0, 0, 3))
    found = made.loss(views)
    losses, right = [], []
    for tiles, answer in zip(views["tiles"], views["answers"].tolist(), strict=True):
        features = torch.cat([made.backbone(tile[None])["layer4"][0].mean(dim=(1, 2)) for tile in tiles])
        hidden = made.head[0].weight @ features + made.head[0].bias - norm.running_mean
        hidden = (hidden / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias).clamp(min=0)
        scores = (made.head[3].weight @ hidden + made.head[3].bias).tolist()
        losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[answer])
        right.append(scores.index(max(scores)) == answer)
    assert float(found["loss"].detach()) == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert float(found["accuracy"]) == pytest.approx(sum(right) / 3)


def test_answers_are_far_apart_and_kept_with_the_weights() -> None:
    made = method(permutations=100)
    between = distances(made.permutations.numpy())[np.triu_indices(100, 1)]
    assert between.min() == 6
    assert "permutations" in made.state_dict()
    other = method(permutations=100)
    other.permutations.copy_(other.permutations.flip(0))  # as if another version had made them
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.permutations, made.permutations)


@pytest.mark.parametrize("size", [32, 128])
def test_it_computes_at_small_and_large_sizes_in_half_precision(size: int) -> None:
    made = Jigsaw(make_backbone(Backbone(), size), JigsawSettings(), size)
    views = made.views(torch.rand(2, 3, size, size), Draws(0, 0, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = made.loss(views)["loss"]
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert made.backbone.conv1.weight.grad is not None and made.backbone.conv1.weight.grad.abs().max() > 0


def test_it_learns_a_few_images_by_heart() -> None:
    made = method(27, permutations=4, gray=0, flip=0)
    images = torch.rand(8, 3, 27, 27)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    losses, right = [], []
    for step in range(40):
        found = made.loss(made.views(images, Draws(0, step, 8)))
        losses.append(float(found["loss"].detach()))
        right.append(float(found["accuracy"]))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert np.mean(right[-5:]) > 0.8 and np.mean(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize("right", [True, False])
def test_pictures_show_the_puzzles_put_together(right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = method(gray=0, flip=0, shift=0)
    images = torch.arange(9.0).view(3, 3).kron(torch.ones(16, 16)).div(10).expand(4, 3, 48, 48)
    _, answers = made.puzzles(images, Draws(0, 5, 4))
    given = answers if right else (answers + 1) % 10
    monkeypatch.setattr(made, "scores", lambda tiles: torch.eye(10)[given])
    [picture] = made.pictures(images, Draws(0, 5, 4))
    side = 3 * 14 + 2
    assert picture.image.shape == (side, 8 * side + 7 * 2, 3) and picture.image.dtype == np.uint8
    assert f"{4 if right else 0} of 4 right" in picture.caption
    for n in range(4):
        left = (2 * n + 1) * (side + 2)
        solved = picture.image[:, left : left + side]
        green = solved[0, 0, 1] > solved[0, 0, 0]
        assert green == right
        # From cell to cell the images get brighter; so do the tiles where the puzzle is solved.
        middles = [int(solved[15 * row + 7, 15 * column + 7, 0]) for row in range(3) for column in range(3)]
        assert (middles == sorted(middles)) == right


@pytest.mark.parametrize(
    "wrong", ["permutations=1", "gray=2", "shift=-1", "hidden=0", "flip=-0.1", "tiles=9"]
)
def test_settings_out_of_range_are_one_sentence(wrong: str) -> None:
    with pytest.raises(InputError, match=rf"^config pretrain/jigsaw: .*jigsaw\.{wrong.split('=')[0]}[^\n]*$"):
        load_config(schema("jigsaw"), "pretrain/jigsaw", [f"jigsaw.{wrong}"], CONFIGS)


@pytest.mark.parametrize(("size", "tile"), [(26, None), (48, 17), (48, 7), (48, -3)])
def test_tiles_that_cant_be_cut_are_one_sentence(size: int, tile: int | None) -> None:
    with pytest.raises(InputError, match=rf"^jigsaw can't cut tiles of [^\n]*data\.size={size}:[^\n]*$"):
        method(size, tile=tile)

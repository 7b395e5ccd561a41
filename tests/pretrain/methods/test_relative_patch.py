"""Relative patch: geometry of all answers, colours, the loss against its formula, and that it learns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.backbones import ResNet
from pretrain.catalogue import Backbone, make_backbone
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.relative_patch import (
    DIRECTIONS,
    Layout,
    RelativePatch,
    RelativePatchSettings,
    coarsenings,
    drop_colours,
    layout,
    project_colours,
)
from pretrain.settings import schema
from pretrain.views import random_resized_crop

CONFIGS = Path(__file__).parents[3] / "configs"


def method(size: int = 32, **settings: Any) -> RelativePatch:
    torch.manual_seed(0)
    backbone = ResNet("resnet18", stem_kind="small", share=0.125)
    return RelativePatch(backbone, RelativePatchSettings(**({"hidden": 32} | settings)), size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(24, (6, 3, 0)), (32, (7, 3, 1)), (64, (15, 7, 1)), (128, (31, 15, 2)), (400, (96, 48, 7))],
)
def test_sizes_follow_the_paper(size: int, expected: tuple[int, int, int]) -> None:
    assert layout(RelativePatchSettings(), size) == Layout(*expected)


@pytest.mark.parametrize("size", range(24, 300, 23))
def test_patches_are_as_large_as_fits(size: int) -> None:
    made = layout(RelativePatchSettings(), size)
    larger = layout(RelativePatchSettings(patch=made.patch + 1), 10 * size)
    assert made.span <= size < larger.span
    assert made.gap >= 2 * made.jitter and made.gap == made.patch // 2


@pytest.mark.parametrize(
    "settings", [{}, {"patch": 8, "gap": 4, "jitter": 2}, {"patch": 9, "gap": 6, "jitter": 0}]
)
def test_each_patch_lies_where_the_answer_says(settings: dict[str, int]) -> None:
    size, count = 48, 1500
    made = method(size, **settings)
    sizes = made.layout
    answers = torch.arange(8).expand(count, 8)
    corners = made.corners(answers, Draws(0, 0, count))  # [N, 9, 2]
    assert corners.min() == 0 and corners.max() == size - sizes.patch  # in the image, and up to its border
    centre, least, most = corners[:, 0], sizes.gap - 2 * sizes.jitter, sizes.gap + 2 * sizes.jitter
    for answer, (down, right) in enumerate(DIRECTIONS):
        for axis, step in enumerate((down, right)):
            moved = corners[:, 1 + answer, axis] - centre[:, axis]
            if step == 0:
                assert -2 * sizes.jitter == moved.min() and moved.max() == 2 * sizes.jitter
            else:
                gaps = step * moved - sizes.patch  # pixels between the two
                assert gaps.min() == least >= 0 and gaps.max() == most


def test_answers_are_counted_row_by_row_around_the_centre() -> None:
    around = [(row - 1, column - 1) for row in range(3) for column in range(3)]
    assert list(DIRECTIONS) == around[:4] + around[5:]


def test_the_centre_does_not_depend_on_the_answer() -> None:
    made = method(64)
    corners = [made.corners(torch.full((50, 1), answer), Draws(0, 0, 50))[:, 0] for answer in range(8)]
    assert all(torch.equal(corners[0], other) for other in corners)
    assert len(corners[0].unique(dim=0)) > 1


def test_neighbours_are_different_ones_in_random_order() -> None:
    made, images = method(neighbours=3), torch.rand(400, 3, 32, 32)
    patches, answers = made.pairs(images, Draws(0, 0, 400))
    assert patches.shape == (400, 4, 3, 7, 7) and answers.shape == (400, 3)
    assert all(len(set(row)) == 3 for row in answers.tolist())
    assert answers[:, 0].bincount(minlength=8).min() > 400 / 8 / 2


def test_the_pixels_are_those_of_the_places() -> None:
    """Without resizing, an image whose pixels say where they are tells where each patch was."""
    steps = torch.arange(64.0)
    image = torch.stack([steps[:, None].expand(64, 64), steps.expand(64, 64), torch.zeros(64, 64)]) / 63
    made = method(64, scale=(1, 1), flip=0)
    patches, answers = made.pairs(image.expand(20, 3, 64, 64), Draws(0, 3, 20))
    places = patches.mean(dim=(-2, -1))[:, :, :2] * 63  # the middles of patches, [N, 9, 2]
    moved = places[:, 1:] - places[:, :1]
    expected = torch.tensor(DIRECTIONS)[answers] * made.layout.pitch
    torch.testing.assert_close(moved, expected.float(), atol=2 * made.layout.jitter + 1e-3, rtol=0)


def slow_views(made: RelativePatch, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """What the first layer gets, one patch at a time."""
    s, sizes, count = made.settings, made.layout, len(images)
    crops = random_resized_crop(images, draws, made.size, s.scale, (1, 1), s.flip)
    answers = draws.permutations(8)[:, : s.neighbours]
    parts = 1 + s.neighbours
    first = draws.integers(made.size - sizes.span + 1, 1, 2)
    moved = draws.integers(2 * sizes.jitter + 1, parts, 2)
    if s.colour == "drop":
        kept, noise = draws.integers(3, parts), draws.normal(parts, 3, sizes.patch, sizes.patch)
    if s.coarse > 0:
        strength, chance = draws.integers(sizes.patch - 10 + 1, parts), draws.uniform(parts)
    result = torch.empty(count, parts, 3, sizes.patch, sizes.patch)
    backbone: Any = made.backbone
    for n in range(count):
        for p in range(parts):
            down, right = (0, 0) if p == 0 else DIRECTIONS[int(answers[n, p - 1])]
            y = int(first[n, 0, 0]) + (down + 1) * (sizes.patch + sizes.gap) + int(moved[n, p, 0])
            x = int(first[n, 0, 1]) + (right + 1) * (sizes.patch + sizes.gap) + int(moved[n, p, 1])
            patch = crops[n, :, y : y + sizes.patch, x : x + sizes.patch].clone()
            for channel in range(3):
                patch[channel] -= patch[channel].mean()
            if s.colour == "drop":
                remaining = patch[int(kept[n, p])].clone()
                patch = noise[n, p] * remaining.std(correction=0) / 100
                patch[int(kept[n, p])] = remaining
            if s.colour == "project":
                axis = torch.tensor([[-1.0, 2.0, -1.0]])
                matrix = torch.eye(3) - axis.T @ axis / (axis @ axis.T)
                patch = (matrix @ patch.flatten(1)).view_as(patch)
            if s.coarse > 0 and chance[n, p] < s.coarse:
                side = 10 + int(strength[n, p])
                small = F.interpolate(patch[None], (side, side), mode="bilinear", antialias=True)
                patch = F.interpolate(small, (sizes.patch, sizes.patch), mode="bilinear")[0]
            result[n, p] = patch / backbone.std
    return result, answers


@pytest.mark.parametrize("colour", ["drop", "project", "none"])
@pytest.mark.parametrize(("coarse", "neighbours"), [(0, 8), (0.5, 2)])
def test_views_are_the_loop_over_patches(colour: str, coarse: float, neighbours: int) -> None:
    made = method(64, colour=colour, coarse=coarse, neighbours=neighbours)
    images = torch.rand(4, 3, 80, 80)
    views = made.views(images, Draws(2, 5, 4))
    seen, answers = slow_views(made, images, Draws(2, 5, 4))
    assert torch.equal(views["answers"], answers)
    backbone: Any = made.backbone
    torch.testing.assert_close(backbone.normalised(views["patches"]), seen, atol=1e-5, rtol=1e-4)


def test_dropped_colours_are_faint_noise() -> None:
    torch.manual_seed(0)
    patches = torch.randn(1, 3, 3, 60, 60) * torch.tensor([0.1, 0.5, 2.0])[:, None, None]
    kept = torch.tensor([[0, 1, 2]])
    found = drop_colours(patches, kept, torch.randn_like(patches))
    for number in range(3):
        assert torch.equal(found[0, number, number], patches[0, number, number])
        spread = float(patches[0, number, number].std())
        for channel in {0, 1, 2} - {number}:
            assert float(found[0, number, channel].std()) == pytest.approx(spread / 100, rel=0.1)


def test_projected_colours_have_no_green_against_magenta() -> None:
    patches = torch.randn(2, 4, 3, 5, 5)
    found = project_colours(patches)
    along = -found[:, :, 0] + 2 * found[:, :, 1] - found[:, :, 2]
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-5, rtol=0)
    torch.testing.assert_close(project_colours(found), found)  # a projection
    gray = torch.randn(2, 1, 5, 5).expand(2, 3, 5, 5)
    torch.testing.assert_close(project_colours(gray), gray)  # gray stays


@pytest.mark.parametrize("patch", [6, 10, 11, 31])
def test_coarsening_keeps_constants_and_ends_with_nothing_changed(patch: int) -> None:
    matrices = coarsenings(patch)
    assert len(matrices) == max(patch - 10, 0) + 1
    torch.testing.assert_close(matrices.sum(dim=2), torch.ones(len(matrices), patch))
    torch.testing.assert_close(matrices[-1], torch.eye(patch))


def test_views_are_those_of_the_draws_and_split_over_processes() -> None:
    made, images = method(), torch.rand(6, 3, 40, 40)
    whole = made.views(images, Draws(3, 7, 6))
    again, other = made.views(images, Draws(3, 7, 6)), made.views(images, Draws(3, 8, 6))
    parts = [made.views(images[3 * rank : 3 * rank + 3], Draws(3, 7, 3, rank, 2)) for rank in range(2)]
    for name, value in whole.items():
        assert torch.equal(value, again[name]) and not torch.equal(value, other[name])
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_the_loss_is_the_cross_entropy_of_eight_answers() -> None:
    made = method(neighbours=2).eval()
    views = made.views(torch.rand(2, 3, 32, 32), Draws(0, 0, 2))
    found = made.loss(views)
    losses, right = [], []
    for patches, answers in zip(views["patches"], views["answers"].tolist(), strict=True):
        features = [made.backbone(patch[None])["layer4"][0].mean(dim=(1, 2)) for patch in patches]
        for number, answer in enumerate(answers):
            pair = torch.cat([features[0], features[1 + number]])
            hidden = (made.head[0].weight @ pair + made.head[0].bias).clamp(min=0)
            scores = (made.head[2].weight @ hidden + made.head[2].bias).tolist()
            losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[answer])
            right.append(scores.index(max(scores)) == answer)
    assert float(found["loss"].detach()) == pytest.approx(sum(losses) / 4, rel=1e-4)
    assert float(found["accuracy"]) == pytest.approx(sum(right) / 4)


@pytest.mark.parametrize("size", [32, 128])
def test_it_computes_at_small_and_large_sizes_in_half_precision(size: int) -> None:
    made = RelativePatch(make_backbone(Backbone(), size), RelativePatchSettings(), size)
    views = made.views(torch.rand(1, 3, size, size), Draws(0, 0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = made.loss(views)["loss"]
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert made.backbone.conv1.weight.grad is not None and made.backbone.conv1.weight.grad.abs().max() > 0


def test_it_learns_a_few_images_by_heart() -> None:
    made = method(scale=(1, 1), flip=0, coarse=0, colour="project")
    images = F.interpolate(torch.rand(8, 3, 5, 5), (32, 32), mode="bilinear")
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    losses, right = [], []
    for step in range(45):
        found = made.loss(made.views(images, Draws(0, step, 8)))
        losses.append(float(found["loss"].detach()))
        right.append(float(found["accuracy"]))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert np.mean(right[-5:]) > 0.6 and np.mean(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize("right", [True, False])
def test_pictures_show_where_patches_were_and_are_placed(
    right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, images = method(), torch.zeros(4, 3, 32, 32)
    _, answers = made.pairs(images, Draws(0, 5, 4))
    given = answers if right else (answers + 1) % 8
    monkeypatch.setattr(made, "scores", lambda patches: torch.eye(8)[given])
    [picture] = made.pictures(images, Draws(0, 5, 4))
    side, pitch = 4 + 3 * 7 + 2 * 2 + 4, 7 + 2
    assert picture.image.shape == (side, 8 * side + 7 * 2, 3) and picture.image.dtype == np.uint8
    assert f"{4 if right else 0} of 4 right" in picture.caption
    for n in range(4):
        for number, answer in enumerate((given[n, 0], answers[n, 0])):
            left = (2 * n + number) * (side + 2)
            shown = picture.image[4:-4, left + 4 : left + side - 4].astype(int)
            dark = [  # the black patches among the bright places
                (row, column)
                for row in range(3)
                for column in range(3)
                if shown[row * pitch + 3, column * pitch + 3].max() < 50
            ]
            down, across = DIRECTIONS[int(answer)]
            assert dark == sorted([(1, 1), (1 + down, 1 + across)])
            corner = shown[(1 + down) * pitch, (1 + across) * pitch]
            assert (corner[1] > corner[0]) == (right or number == 1)  # green frame, else red


@pytest.mark.parametrize(
    "wrong",
    [
        "neighbours=0",
        "neighbours=9",
        "colour=gray",
        "coarse=2",
        "scale=[1,0.5]",
        "flip=2",
        "patch=0",
        "gaps=1",
    ],
)
def test_settings_out_of_range_are_one_sentence(wrong: str) -> None:
    key = wrong.split("=")[0]
    with pytest.raises(InputError, match=rf"^config pretrain/relative_patch: .*relative_patch\.{key}[^\n]*$"):
        load_config(schema("relative_patch"), "pretrain/relative_patch", [f"relative_patch.{wrong}"], CONFIGS)


@pytest.mark.parametrize(
    ("size", "settings", "why"),
    [
        (23, {}, "patches need 6 pixels"),
        (32, {"patch": 9}, "needs 37 pixels"),
        (32, {"gap": 40}, "needs 83 pixels"),
        (64, {"patch": 10, "gap": 3, "jitter": 2}, "overlap"),
        (64, {"patch": 5}, "patches need 6 pixels"),
    ],
)
def test_patches_that_cant_be_cut_are_one_sentence(size: int, settings: dict[str, int], why: str) -> None:
    with pytest.raises(InputError, match=rf"^relative_patch with patches of [^\n]*{why}[^\n]*$"):
        method(size, **settings)

"""The objectives against their formulas written out, and the two views' geometry."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from pydantic import ValidationError

from vidtrack.learn.clips import ClipDataset, Clips, collate, nearest_cells, second_view, warp_grid
from vidtrack.learn.objectives.anchors import Anchors, anchor_loss, grid_cells
from vidtrack.learn.objectives.base import Views
from vidtrack.learn.objectives.quantized import (
    Quantized,
    QuantizedColors,
    fit_palette,
    quantise,
    quantized_loss,
)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-3)


@pytest.mark.parametrize("cross_view", [0.0, 0.1])
def test_anchor_loss_equals_its_formula(cross_view: float) -> None:
    torch.manual_seed(1)
    batch, frames, depth, cells = 3, 3, 8, 6
    settings = Anchors(grid=2, temperature=0.1, cross_view=cross_view, cross_grid=2)
    first, second = unit(batch, frames, depth, cells, cells), unit(batch, frames - 1, depth, cells, cells)
    graded = unit(batch, depth, cells, cells)
    windows = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.2, 0.3, 0.5, 1.0], [0.4, 0.0, 0.6, 0.0]])
    offsets = torch.tensor([[0.0, 0.0], [0.5, 0.9], [0.99, 0.2]])
    found = anchor_loss(first, second, graded, windows, offsets, settings)

    def cell(n: int) -> tuple[int, int]:
        return n // cells, n % cells

    places = grid_cells(cells, 2, offsets)
    anchors = [first[b, 0, :, *cell(int(n))] for b in range(batch) for n in places[b]]
    warp = nearest_cells(windows, cells)
    losses = []
    for b in range(batch):
        for t in range(1, frames):
            for n in range(cells * cells):
                own = [float(second[b, t - 1, :, *cell(n)] @ anchors[b * 4 + a]) for a in range(4)]
                target = b * 4 + int(np.argmax(own))
                here = first[b, t, :, *cell(int(warp[b, n]))]
                logits = torch.stack([here @ z for z in anchors]) / 0.1
                losses.append(-logits.log_softmax(0)[target])
    assignment = torch.stack(losses).mean()
    torch.testing.assert_close(found["assignment"], assignment)
    keys = [graded[b, :, *cell(int(n))] for b in range(batch) for n in places[b]]
    queries = [first[b, 0, :, *cell(int(warp[b, n]))] for b in range(batch) for n in places[b]]
    scores = torch.stack([torch.stack([q @ k for k in keys]) for q in queries]) / 0.1
    expected = assignment + cross_view * F.cross_entropy(scores, torch.arange(len(keys)))
    torch.testing.assert_close(found["loss"], expected)


def assigned(content: bool) -> dict[str, torch.Tensor]:
    """The loss of anchors where each cell is told by what it shows, or by where it lies."""
    cells, frames, windows = 4, 3, torch.tensor([[0.2, 0.3, 0.5, 1.0]])
    first = torch.eye(cells**2)[None, None].expand(1, frames, -1, -1)  # [1, T, D, n]
    second = first
    if content:
        seen = nearest_cells(windows, cells)[:, None, None].expand(-1, frames, cells**2, -1)
        second = first.gather(3, seen)
    first, second = (x.unflatten(3, (cells, cells)) for x in (first, second))
    settings = Anchors(grid=cells, cross_grid=2)  # every cell is an anchor
    return anchor_loss(first, second[:, 1:], second[:, 0], windows, torch.zeros(1, 2), settings)


def test_places_are_no_way_to_find_anchors() -> None:
    found, shortcut = assigned(content=True), assigned(content=False)
    assert float(found["loss"]) < 1e-3 and float(found["agreement"]) == 1
    chance = math.log(16)
    for part in ("assignment", "cross_view"):
        assert float(shortcut[part]) > 2 * chance  # worse than to know nothing


def test_quantized_loss_equals_its_formula() -> None:
    torch.manual_seed(2)
    embeddings = unit(2, 3, 5, 2, 2)
    colors = torch.randint(4, (2, 3, 4))
    found = quantized_loss(embeddings, colors, 4, Quantized(temperature=0.2))
    losses = []
    for b in range(2):
        query = embeddings[b, -1].flatten(1)
        for n in range(4):
            mass = torch.zeros(4)
            scores = torch.stack(
                [embeddings[b, t].flatten(1)[:, m] @ query[:, n] / 0.2 for t in range(2) for m in range(4)]
            )
            for weight, color in zip(scores.softmax(0), colors[b, :2].flatten(), strict=True):
                mass[color] += weight
            losses.append(-(mass[colors[b, 2, n]] + 1e-6).log())
    torch.testing.assert_close(found["loss"], torch.stack(losses).mean())


def test_quantized_sees_gray_pictures_of_the_same_lightness() -> None:
    frames = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    objective = QuantizedColors(Quantized(), 8)
    seen = objective.pictures(Views(frames, torch.zeros(2, 4), 0, 0))
    assert seen is not None and seen.shape == frames.shape
    assert float((seen.amax(dim=2) - seen.amin(dim=2)).max()) < 1e-3
    torch.testing.assert_close(rgb_to_lab(seen)[:, :, 0], rgb_to_lab(frames)[:, :, 0], atol=0.05, rtol=0)


def test_second_view_is_the_described_crop_and_mirror() -> None:
    x = torch.linspace(0, 1, 64).expand(1, 1, 1, 64, 64)  # brightness tells the column
    frames = torch.cat([x, x.transpose(-1, -2), x], dim=2)
    windows = torch.tensor([[0.25, 0.5, 0.5, 1.0]])
    view = second_view(frames, windows)
    places = warp_grid(windows, 64)[0]  # where each pixel lies in the first view, 0..1
    torch.testing.assert_close(view[0, 0, 0], (places[..., 0] * 64 - 0.5) / 63, atol=0.01, rtol=0)
    torch.testing.assert_close(view[0, 0, 1], (places[..., 1] * 64 - 0.5) / 63, atol=0.01, rtol=0)
    assert view[0, 0, 0, 0, 0] > view[0, 0, 0, 0, -1]  # mirrored


def test_whole_window_is_the_identity() -> None:
    frames = torch.rand(2, 3, 3, 16, 16)
    windows = torch.tensor([[0.0, 0.0, 1.0, 0.0]] * 2)
    torch.testing.assert_close(second_view(frames, windows), frames, atol=1e-5, rtol=0)
    assert torch.equal(nearest_cells(windows, 4), torch.arange(16).expand(2, 16))


def test_grid_covers_the_frame() -> None:
    low = grid_cells(16, 4, torch.zeros(1, 2))[0]
    high = grid_cells(16, 4, torch.full((1, 2), 0.999))[0]
    assert low.tolist() == [16 * 4 * r + 4 * c for r in range(4) for c in range(4)]
    assert int(high.max()) == 255
    assert len(set(high.tolist())) == 16


def test_clips_depend_on_the_draw_alone() -> None:
    video = np.arange(30, dtype=np.uint8)[:, None, None, None] + np.zeros((30, 40, 60, 3), np.uint8)
    clips = ClipDataset([video, video[:3]], Clips(frames=3, gap=(2, 4), crop=32))
    one, two = clips[(0, 5, 1, 0)], clips[(0, 5, 1, 0)]
    assert np.array_equal(one.frames, two.frames)
    assert one.window == two.window
    seen = set()
    for step in range(60):
        times = sorted(int(f[0, 0, 0]) for f in clips[(0, step, 0, 0)].frames)
        gaps = {b - a for a, b in pairwise(times)}
        assert len(gaps) == 1
        seen |= gaps
    assert seen == {2, 3, 4}
    assert sorted(int(f[0, 0, 0]) for f in clips[(0, 1, 0, 1)].frames) == [0, 1, 2]  # a short video
    frames, windows = collate([one, two])
    assert frames.shape == (2, 3, 3, 32, 32)
    assert windows.shape == (2, 4)


def test_clips_of_other_scales_show_what_lies_there() -> None:
    """Ramps tell where a window was: a column's value is its place, so the spread of a crop is its side."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, None, :, None], (12, 80, 200, 3))

    def sides(changes: dict[str, object]) -> np.ndarray:
        clips = ClipDataset([ramp], Clips.model_validate({"frames": 4, "crop": 32, **changes}))
        found = []
        for step in range(40):
            frames = clips[(0, step, 0, 0)].frames.astype(float)
            assert frames.shape == (4, 32, 32, 3)
            found.append(np.ptp(frames[:, 16, :, 0], axis=1) * 32 / 31)  # pixels that 32 columns show
            centres = frames[:, 16, 15:17, 0].mean(axis=1)
            inside = (frames.min(axis=(1, 2, 3)) > 0) & (frames.max(axis=(1, 2, 3)) < 199)
            if inside.any():
                assert np.ptp(centres[inside]) <= 2  # all frames about one centre
        return np.array(found)  # [clips, frames]

    assert np.allclose(sides({}), 32)
    of_clips = sides({"scale": (0.5, 2.0)})
    assert np.allclose(of_clips, of_clips[:, :1], atol=1.5)
    assert 15 < of_clips.min() < 20 and 55 < of_clips.max() < 66
    of_frames = sides({"scale_jitter": 0.5})
    assert 32 / 1.7 < of_frames.min() < 24 and 44 < of_frames.max() < 32 * 1.7
    assert np.ptp(of_frames, axis=1).mean() > 8
    assert sides({"scale": (6.0, 6.0), "scale_jitter": 1.0}).max() <= 83  # never more than the short side


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": (2.0, 1.0)}, "the smaller one first"),
        ({"scale": (0.0, 1.0)}, "greater than or equal to 0.1"),
        ({"scale": (1.0, 20.0)}, "less than or equal to 10"),
        ({"scale_jitter": -0.1}, "greater than or equal to 0"),
    ],
)
def test_impossible_scales_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Clips.model_validate(changes)


def test_palette_finds_the_colours_of_the_videos() -> None:
    video = np.zeros((2, 32, 64, 3), np.uint8)
    video[:, :, :32], video[:, :, 32:] = (255, 0, 0), (0, 0, 255)
    palette = fit_palette([video], Quantized(colors=2, sampled_pixels=200), seed=0, stride=8)
    red, blue = sorted(palette.tolist(), reverse=True)
    assert red == pytest.approx([80.1, 67.2], abs=0.5) or blue == pytest.approx([80.1, 67.2], abs=0.5)
    ab = torch.tensor([[80.0, 79.0], [67.0, -107.0]])[None, :, None]  # [1, 2, 1, 2]: red, blue
    assert len(set(quantise(ab, palette)[0].tolist())) == 2

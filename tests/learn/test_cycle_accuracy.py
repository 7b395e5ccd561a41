"""The label-free score: its walks written out, and what models without and with understanding get."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.learn import cycle_accuracy as module
from vidtrack.learn.clips import nearest_cells
from vidtrack.learn.cycle_accuracy import Embed, cycle_accuracy, follow, walks
from vidtrack.learn.frames import sampled_frames
from vidtrack.learn.held_out import HeldOut, choose_clips
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import load_tracker
from vidtrack.tracker import BUNDLED, bundled_weights

SIDE, CELLS = 64, 8
WINDOWS = torch.tensor(
    [[0.0, 0.0, 0.5, 0.0], [0.2, 0.3, 0.6, 1.0], [0.25, 0.0, 0.75, 1.0], [0.1, 0.4, 0.5, 0.0]]
)


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape), dim=2)


def ramps(count: int = 4, frames: int = 4) -> Tensor:
    """Clips uint8 in which red tells the column and green the row; content moves a pixel with each frame."""
    line = torch.arange(SIDE)
    made = torch.zeros(count, frames, 3, SIDE, SIDE)
    for t in range(frames):
        made[:, t, 0] = (line + t) * 3
        made[:, t, 1] = (line[:, None] + t) * 3
    return made.to(torch.uint8)


def by_colour(images: Tensor) -> Tensor:
    """Unit vectors that tell the colour of a cell, and so the content."""
    angles = F.avg_pool2d(images, SIDE // CELLS)[:, :2] * torch.pi
    return F.normalize(torch.cat([angles.cos(), angles.sin()], dim=1), dim=1)


def by_place(images: Tensor) -> Tensor:
    """A vector of its own for each place, whatever is there."""
    return torch.eye(CELLS**2).view(1, CELLS**2, CELLS, CELLS).expand(len(images), -1, -1, -1)


def alike(images: Tensor) -> Tensor:
    """The same everywhere."""
    return torch.ones(len(images), 1, CELLS, CELLS)


def noise(images: Tensor) -> Tensor:
    """Nothing that would be the same twice."""
    return F.normalize(torch.randn(len(images), 16, CELLS, CELLS), dim=1)


def test_walks_are_random_walks() -> None:
    torch.manual_seed(0)
    batch, frames, places, temperature = 2, 4, 5, 0.3
    second, first = unit(batch, frames, 6, places), unit(batch, frames, 6, places)
    found = walks(second, first, temperature)
    assert found.shape == (frames - 1, batch, places)
    for b in range(batch):
        for k in range(1, frames):
            way = [second[b, t] for t in range(k + 1)] + [first[b, t] for t in range(k, -1, -1)]
            for start in range(places):
                chances = [float(place == start) for place in range(places)]
                for here, there in pairwise(way):
                    after = [0.0] * places
                    for place, chance in enumerate(chances):
                        scores = [
                            float(here[:, place] @ there[:, other]) / temperature for other in range(places)
                        ]
                        total = sum(torch.tensor(scores).exp().tolist())
                        for other, score in enumerate(scores):
                            after[other] += chance * float(torch.tensor(score).exp()) / total
                    chances = after
                assert int(found[k - 1, b, start]) == chances.index(max(chances))


@pytest.mark.parametrize(("embed", "low", "high"), [(alike, 0, 1.5), (by_place, 0, 0), (noise, 0.3, 2)])
def test_without_understanding_it_is_chance(embed: Embed, low: float, high: float) -> None:
    torch.manual_seed(0)
    found = cycle_accuracy(embed, ramps(), WINDOWS, 0.05)
    assert low * found.chance <= found.mean <= high * found.chance


def test_content_is_found() -> None:
    found = cycle_accuracy(by_colour, ramps(), WINDOWS, 0.001)
    assert found.mean > 0.99 and len(found.steps) == 3
    assert found.mean == pytest.approx(sum(found.steps) / 3)
    assert found.chance < 0.15


def test_what_counts_and_what_is_right() -> None:
    torch.manual_seed(0)
    frames = ramps()
    found = follow(noise, frames, WINDOWS, 0.05, tolerance=1)
    truth = nearest_cells(WINDOWS, CELLS)
    near = total = 0
    for b in range(len(WINDOWS)):
        for cell in range(CELLS**2):
            row, column = divmod(int(truth[b, cell]), CELLS)
            moved = max(abs(row - cell // CELLS), abs(column - cell % CELLS)) > 1
            assert bool(found.counts[b, cell]) == moved
            for k in range(3):
                end = divmod(int(found.ends[k, b, cell]), CELLS)
                close = abs(end[0] - row) <= 1 and abs(end[1] - column) <= 1
                assert bool(found.right[k, b, cell]) == (moved and close)
            if moved:
                total += 1
                near += sum(
                    abs(r - row) <= 1 and abs(c - column) <= 1 for r in range(CELLS) for c in range(CELLS)
                )
    assert cycle_accuracy(noise, frames, WINDOWS, 0.05).chance == pytest.approx(near / total / CELLS**2)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cycle_accuracy(by_colour, ramps(), WINDOWS, 0.1)
    assert 0.05 < whole.mean < 0.99
    monkeypatch.setattr(module, "BATCH", 3)
    parts = cycle_accuracy(by_colour, ramps(), WINDOWS, 0.1)
    assert parts.mean == pytest.approx(whole.mean) and parts.chance == pytest.approx(whole.chance)


def test_the_trackers_that_come_along_are_far_above_random_weights(data: Path) -> None:
    names = [f"sam2__0{name}.mp4" for name in ("1-dog", "2-cups", "3-blocks", "4-coffee")]
    videos = [np.stack(list(islice(sampled_frames(data / "train" / name, 96, 6), 9))) for name in names]
    clips = choose_clips(videos, names, HeldOut(clips=4, frames=3), 96)
    assert clips is not None
    torch.manual_seed(0)
    models = {"random": VideoColorizer(Model()).eval()}
    for name in BUNDLED:
        path = bundled_weights(name)
        assert path is not None
        models[name] = load_tracker(path).model
    scores = {
        name: cycle_accuracy(model.embed, clips.frames, clips.windows, 0.02).mean
        for name, model in models.items()
    }
    # Of 12x12 cells most are near the edge, which helps no walk home: the networks see it repeated.
    assert min(scores[name] for name in BUNDLED) > 1.5 * scores["random"] > 0

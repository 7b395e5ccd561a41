"""The attention of a point: numbers against the slow definition, the picture against the numbers."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidtrack import InputError, Masks
from vidtrack.pointer_picture import memory_of, parse_point, pointer_picture
from vidtrack.pointers import as_keys, topk
from vidtrack.propagate.memory import Kept, Memory
from vidtrack.reports.overlay import contact_sheet
from vidtrack.reports.pointers import PointerWeights, attention, draw_pointers, point_weights
from vidtrack.tracker import load
from vidtrack.video import VideoWriter


def embeddings(count: int, height: int, width: int, channels: int = 12, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(height, width, channels, generator=rng), dim=-1) for _ in range(count)]


@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    frames=st.integers(1, 3),
    radius=st.integers(1, 5),
    k=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_attention_equals_the_slow_definition(
    height: int, width: int, frames: int, radius: int, k: int, seed: int
) -> None:
    query, *memory = embeddings(frames + 1, height, width, seed=seed)
    row, column = seed % height, seed % width
    cosine, weight, top, shares = attention(query, memory, (row, column), radius, k, 0.07)
    scores = {}
    for m in range(frames):
        for y in range(height):
            for x in range(width):
                if max(abs(y - row), abs(x - column)) <= radius:
                    scores[m, y, x] = float(query[row, column].double() @ memory[m][y, x].double())
                else:
                    assert weight[m, y, x] == 0 and cosine[m, y, x].isnan()
    total = sum(math.exp(s / 0.07) for s in scores.values())
    for place, score in scores.items():
        assert float(cosine[place]) == pytest.approx(score, abs=1e-5)
        assert float(weight[place]) == pytest.approx(math.exp(score / 0.07) / total, abs=1e-5)
    best = sorted(scores, key=lambda place: -scores[place])[:k]
    assert [tuple(place) for place in top.tolist()] == best
    kept = sum(math.exp(scores[place] / 0.07) for place in best)
    for share, place in zip(shares.tolist(), best, strict=True):
        assert share == pytest.approx(math.exp(scores[place] / 0.07) / kept, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kept_cells_are_those_of_a_search_of_the_whole_frame(dtype: torch.dtype) -> None:
    query, *memory = (e.to(dtype) for e in embeddings(4, 20, 27))
    whole = topk(query, [as_keys(frame, 4) for frame in memory], 4, 5, 0.05)
    for row, column in ((0, 0), (13, 9), (19, 26)):
        _, _, top, shares = attention(query, memory, (row, column), 4, 5, 0.05)
        own = int((whole.cells == row * 27 + column).nonzero())
        index = (top[:, 0] * 20 + top[:, 1]) * 27 + top[:, 2]
        assert torch.equal(index, whole.index[own]) and torch.equal(shares, whole.weight[own])


@pytest.mark.parametrize("gaps", [(1,), (1, 2, 3), (1, 3, 6), (2, 5)])
@pytest.mark.parametrize("step", [1, -1])
def test_the_memory_is_the_trackers(gaps: tuple[int, ...], step: int) -> None:
    def kept(index: int) -> Kept:
        return Kept(index, torch.zeros(0), torch.zeros(0), torch.zeros(0))

    memory = Memory(gaps)
    memory.annotate(kept(30))
    for distance in range(1, 12):
        frame = 30 + step * distance
        expected = tuple(one.index for one in memory.frames())
        assert memory_of(frame, 30, gaps) == expected
        memory.add(kept(frame))


@pytest.mark.parametrize("size", [None, 32])
def test_a_point_lies_in_its_cell(size: int | None) -> None:
    image_size = (64, 96)
    scale = 1 if size is None else 2
    query, memory = embeddings(2, 8 // scale, 12 // scale)
    for x, y in ((-0.5, -0.5), (7.5, 39.5), (7.49, 8.0), (7.51, 30.2), (95.49, 63.49), (40, 16)):
        found = point_weights(
            {3: query, 2: memory},
            image_size,
            3,
            (x, y),
            [2],
            size=size,
            stride=8,
            radius=2,
            k=3,
            temperature=0.05,
        )
        side = 8 * scale
        assert found.cell == (int((y + 0.5) // side), int((x + 0.5) // side))
        assert found.memory == (2,) and found.cosine.shape == found.weight.shape == (1, *query.shape[:2])


def weights(memory: tuple[int, ...] = (0, 4), cell: tuple[int, int] = (3, 4)) -> PointerWeights:
    """One cell of frame 0 has all the weight, of frames of 8 x 12 cells."""
    cosine = np.full((len(memory), 8, 12), np.nan, np.float32)
    cosine[:, 1:6, 2:7] = 0.1
    cosine[0, 2, 5] = 0.9
    weight = np.zeros((len(memory), 8, 12), np.float32)
    weight[0, 2, 5] = 1
    top, share = np.array([[0, 2, 5]]), np.array([1.0], np.float32)
    return PointerWeights(5, (36.0, 28.0), cell, memory, 2, 8, (64, 96), cosine, weight, top, share)


def test_the_picture_shows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    sheets = []

    def kept(images: list[np.ndarray], columns: int, captions: list[str]) -> np.ndarray:
        sheets.append((images, columns, captions))
        return contact_sheet(images, columns, captions)

    monkeypatch.setattr("vidtrack.reports.pointers.contact_sheet", kept)
    images = {n: np.full((64, 96, 3), 100, np.uint8) for n in (0, 4, 5)}
    sheet = draw_pointers(images, [weights(), weights()])
    pictures, columns, captions = sheets[0]
    assert sheet.dtype == np.uint8 and sheet.ndim == 3 and columns == 3
    assert captions == 2 * [
        "frame 5: point 36, 28",
        "frame 0: weight 1.00, best cosine 0.90",
        "frame 4: weight 0.00, best cosine 0.10",
    ]
    assert all((image == 100).all() for image in images.values())  # the frames are not drawn on
    query, first, second = pictures[:3]
    assert (query[28, 24:50] != 100).any() and (query[10:55, 36] != 100).any()
    assert (query[:16] == 100).all() and (query[:, 60:] == 100).all()
    hot = first[20, 44].astype(int)  # the centre of cell (2, 5)
    assert hot[0] > 200 and hot[0] > hot[2]  # the bright, yellow end of the scale, in RGB
    assert (first[:, :12] == 100).all() and (first[56:] == 100).all()
    assert (
        tuple(first[28, 16]) != (100,) * 3 and tuple(second[28, 16]) != (100,) * 3
    )  # the window's left side
    assert (second[10:46, 18:54] == 100).all()  # no heat, no ring inside of it


def test_many_frames_take_several_rows_and_large_ones_are_shrunk() -> None:
    memory = tuple(range(8))
    one = weights(memory)
    images = {n: np.full((64, 96, 3), 100, np.uint8) for n in range(9)}
    narrow, wide = draw_pointers(images, [one]), draw_pointers(images, [one, one])
    assert narrow.shape[1] == wide.shape[1] < 5 * 96 + 100
    assert wide.shape[0] - 8 == 2 * (narrow.shape[0] - 8)
    large = {n: np.zeros((640, 960, 3), np.uint8) for n in (0, 4, 5)}
    assert draw_pointers(large, [weights()]).shape[1] == 3 * 720 + 4 * 8


def test_shares_are_written_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []
    monkeypatch.setattr(
        "vidtrack.reports.pointers.put_text", lambda image, text, center, *_: placed.append(center)
    )
    one = weights()
    one.top = np.array([[0, 2, 5], [0, 2, 6], [0, 3, 5], [0, 0, 11], [1, 3, 3]])
    one.top_weight = np.array([0.4, 0.3, 0.1, 0.1, 0.1], np.float32)
    draw_pointers({n: np.zeros((640, 960, 3), np.uint8) for n in (0, 4, 5)}, [one])
    assert len(placed) == 5
    for i, (x, y) in enumerate(placed):
        assert 10 < x < 710 and 5 < y < 475  # whole
        for u, v in placed[:3][:i] if i < 4 else ():  # the fourth is on another picture
            assert abs(x - u) > 15 or abs(y - v) > 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 frames 96 x 64: a red square moves 4 pixels to the right per frame, over a smooth gradient."""
    path = tmp_path_factory.mktemp("clip") / "v.mp4"
    shade = np.linspace(40, 160, 64)[:, None, None] + np.linspace(0, 60, 96)[None, :, None]
    with VideoWriter(path, 96, 64, Fraction(25)) as writer:
        for t in range(10):
            image = shade.repeat(3, 2).astype(np.uint8)
            image[24:40, 8 + 4 * t : 24 + 4 * t] = (230, 20, 20)
            writer.write(image)
    return path


def test_a_moving_square_points_to_itself(clip: Path) -> None:
    tracker = load("lab", device="cpu", context="2,4", topk=3, size=None)
    picture, found = pointer_picture(clip, 9, [(52, 32), (4, 4)], tracker, reference=1)
    assert picture.dtype == np.uint8 and len(found) == 2
    assert found[0].memory == (1, 7, 5) and found[0].frame == 9
    for position, number in enumerate(found[0].memory):
        _, x = np.unravel_index(int(np.nanargmax(found[0].cosine[position])), (8, 12))
        assert abs(x * 8 + 3.5 - (15.5 + 4 * number)) <= 8  # the square's centre
    np.testing.assert_allclose([one.weight.sum() for one in found], 1, atol=1e-5)
    np.testing.assert_allclose([one.top_weight.sum() for one in found], 1, atol=1e-5)


def test_the_numbers_are_those_of_a_propagation(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidtrack.propagate import propagator

    seen = []

    def spied(query: Tensor, memory: list[Tensor], *arguments: object, active: Tensor) -> object:
        seen.append(topk(query, memory, *arguments, active=None))  # type: ignore[arg-type]
        return topk(query, memory, *arguments, active=active)  # type: ignore[arg-type]

    monkeypatch.setattr(propagator, "topk", spied)
    tracker = load("lab", device="cpu", size=None, bijective=0, annotated=0)
    ids = np.zeros((64, 96), np.uint8)
    ids[24:40, 8:24] = 1
    list(tracker.propagate(clip, {0: Masks(ids)}))
    _, (one,) = pointer_picture(clip, 8, [(50, 30)], tracker)
    row, column = one.cell
    index = (one.top[:, 0] * 8 + one.top[:, 1]) * 12 + one.top[:, 2]
    pointers = seen[7]  # of frame 8: the first search is that of frame 1
    assert index.tolist() == pointers.index[pointers.cells == row * 12 + column][0].tolist()


MISTAKES = {
    "right of the frame": ({"points": [(96, 3)]}, "96,3 lies outside.*96 x 64"),
    "above the frame": ({"points": [(5, 5), (5, -1)]}, "5,-1 lies outside"),
    "not a number": ({"points": [(float("nan"), 3)]}, "lies outside"),
    "after the end": ({"frame": 10}, "no frame 10: it has 10 frames"),
    "reference after the end": ({"reference": 12}, "no frame 12"),
    "its own reference": ({"frame": 4, "reference": 4}, "frame 4 is the reference"),
    "negative": ({"frame": -1}, "count from 0"),
    "copy": ({"tracker": "copy"}, "copy has no pointers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(clip: Path, mistake: str) -> None:
    given_, sentence = MISTAKES[mistake]
    options: dict = {"frame": 5, "points": [(3, 3)], "reference": 0, "tracker": "lab"} | given_
    tracker = load(options.pop("tracker"), device="cpu")
    with pytest.raises(InputError, match=sentence):
        pointer_picture(clip, tracker=tracker, **options)


def test_points_are_parsed() -> None:
    assert parse_point("310,200.5") == (310.0, 200.5)
    for text in ("310", "3,4,5", "a,b", ""):
        with pytest.raises(InputError, match="give x and y"):
            parse_point(text)

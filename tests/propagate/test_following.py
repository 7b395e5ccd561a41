"""The annotated frame with its objects where they are now: a loop over cells, and whole carriers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.labels import Masks
from vidtrack.pointers import as_keys
from vidtrack.propagate.following import MARGIN, Following
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.memory import Kept, Memory
from vidtrack.propagate.motion import LOST
from vidtrack.propagate.propagator import from_patches, to_patches
from vidtrack.propagate.settings import Propagation

HEIGHT, WIDTH, FINE, RADIUS, DEPTH = 14, 17, 2, 3, 8
Box = tuple[int, int, int, int]  # top, left, height and width in labels


def kept(index: int, boxes: list[Box | None], valid: Tensor | None = None, seed: int = 0) -> Kept:
    """A frame with a box for each object, later ones over earlier ones."""
    generator = torch.Generator().manual_seed(seed)
    embedding = F.normalize(torch.randn(HEIGHT, WIDTH, DEPTH, generator=generator), dim=-1)
    ids = torch.zeros(FINE * HEIGHT, FINE * WIDTH, dtype=torch.long)
    for number, box in enumerate(boxes, start=1):
        if box:
            ids[box[0] : box[0] + box[2], box[1] : box[1] + box[3]] = number
    patches = to_patches(F.one_hot(ids, len(boxes) + 1).float(), FINE)
    labelled = (patches.view(HEIGHT, WIDTH, FINE**2, -1)[..., 0] < 1).any(dim=-1)
    return Kept(index, as_keys(embedding, RADIUS, valid), patches, labelled)


def slow(annotated: Kept, newest: Kept) -> dict[tuple[int, int], tuple[int, int]]:
    """Which cell each cell shows, by going through objects and cells one by one."""

    def held(one: Kept, row: int, column: int, number: int) -> float:
        return float(one.patches[row, column].view(FINE**2, -1)[:, number].mean())

    every = [(row, column) for row in range(HEIGHT) for column in range(WIDTH)]
    shown: dict[tuple[int, int], tuple[int, int]] = {}
    strength: dict[tuple[int, int], float] = {}
    for number in range(1, annotated.patches.shape[-1] // FINE**2):
        own = {cell: held(annotated, *cell, number) for cell in every}
        now = {cell: held(newest, *cell, number) for cell in every}
        small, large = sorted((sum(own.values()), sum(now.values())))
        if small < LOST * large or not small:
            continue
        step = [
            round(
                sum(cell[axis] * share for cell, share in now.items()) / sum(now.values())
                - sum(cell[axis] * share for cell, share in own.items()) / sum(own.values())
            )
            for axis in (0, 1)
        ]
        if step == [0, 0]:
            continue
        for row, column in every:
            window = [
                share for (y, x), share in own.items() if abs(y - row) <= MARGIN and abs(x - column) <= MARGIN
            ]
            to = (row + step[0], column + step[1])
            inside = 0 <= to[0] < HEIGHT and 0 <= to[1] < WIDTH
            if max(window) > 0 and inside and own[row, column] > strength.get(to, -1):
                shown[to], strength[to] = (row, column), own[row, column]
    return shown


MOVES: list[tuple[list[Box | None], list[Box | None]]] = [
    ([(4, 4, 7, 5)], [(9, 12, 7, 5)]),
    ([(4, 4, 7, 5)], [(5, 18, 10, 7)]),  # grown
    ([(4, 4, 6, 6), (16, 20, 5, 8)], [(8, 8, 6, 6), (12, 12, 9, 9)]),  # one has grown too much
    ([(4, 4, 6, 6), (16, 20, 5, 8)], [(8, 8, 6, 6), (16, 20, 5, 8)]),  # one stays
    ([(4, 4, 6, 6), (4, 20, 7, 9)], [(8, 12, 6, 6), (8, 12, 6, 7)]),  # one comes to lie over the other
    ([(2, 2, 6, 6), (6, 8, 6, 6)], [(12, 2, 6, 6), (20, 26, 6, 6)]),  # neighbours, that part
    ([(4, 4, 6, 6)], [(0, 30, 8, 4)]),  # at the border: a part has left
    ([(4, 4, 6, 6), None], [(14, 4, 6, 6), (0, 0, 4, 4)]),  # one has come since
    ([(4, 4, 6, 6), (10, 20, 6, 6)], [None, (14, 24, 6, 6)]),  # one is lost
    ([(4, 4, 6, 6), (10, 20, 6, 6)], [(0, 4, 3, 6), (4, 20, 3, 5)]),  # both are smaller, one by half
]


@pytest.mark.parametrize(("then", "now"), MOVES)
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_it_is_the_slow_one(then: list[Box | None], now: list[Box | None], share: float) -> None:
    valid = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) < share
    annotated, newest = kept(3, then, None if share == 1 else valid), kept(9, now, seed=1)
    moved = Following(FINE, RADIUS)(annotated, newest)
    assert moved is not None and moved.index == 3
    expected = slow(annotated, newest)
    embedding = annotated.keys.map[RADIUS : RADIUS + HEIGHT, RADIUS : RADIUS + WIDTH, :DEPTH]
    fresh, there = torch.zeros(HEIGHT, WIDTH, DEPTH), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            origin = expected.get((row, column))
            if origin is None:
                assert not moved.patches[row, column].any() and not moved.labelled[row, column]
                continue
            assert torch.equal(moved.patches[row, column], annotated.patches[origin])
            assert bool(moved.labelled[row, column]) == bool(annotated.labelled[origin])
            fresh[row, column] = embedding[origin]
            there[row, column] = share == 1 or bool(valid[origin])
    keys = as_keys(fresh, RADIUS, there)
    assert torch.equal(moved.keys.map, keys.map)
    for own, least in ((moved.keys.rows, keys.rows), (moved.keys.columns, keys.columns)):
        assert own[0] <= least[0] and own[1] >= least[1]  # nothing that may be pointed to lies outside


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ([(4, 4, 6, 6)], [(4, 4, 6, 6)]),
        ([(4, 4, 6, 6)], [(3, 4, 8, 6)]),  # grown alike in all directions
        ([(4, 4, 6, 6)], [None]),
        ([(4, 4, 8, 8)], [(16, 20, 5, 6)]),  # it has lost more than half of its size
        ([(4, 4, 6, 6)], [(8, 8, 9, 9)]),  # it is more than twice as large
        ([None], [(4, 4, 6, 6)]),
    ],
)
def test_what_has_not_moved_is_not_shown_again(then: list[Box | None], now: list[Box | None]) -> None:
    assert Following(FINE, RADIUS)(kept(0, then), kept(1, now)) is None


def test_the_memory_shows_it_until_something_changes() -> None:
    asked = []
    follow = Following(FINE, RADIUS)

    def counted(annotated: Kept, newest: Kept) -> Kept | None:
        asked.append((annotated.index, newest.index))
        return follow(annotated, newest)

    memory = Memory((1, 2), counted)
    memory.annotate(kept(0, [(2, 2, 6, 6)]))
    assert [one.index for one in memory.frames()] == [0]
    memory.add(kept(1, [(4, 4, 6, 6)]))
    assert [one.index for one in memory.frames()] == [0, 0, 1]
    assert memory.frames()[0] is memory.annotated()[0]
    assert torch.equal(memory.frames()[1].patches, kept(0, [(2, 2, 6, 6)]).patches)
    memory.look_ahead(kept(3, [(20, 20, 6, 6)]))
    memory.add(kept(2, [(10, 10, 6, 6)]))
    assert [one.index for one in memory.frames()] == [0, 3, 0, 3, 2, 1]
    assert asked == [(0, 0), (0, 1), (0, 2), (3, 2)]


@pytest.mark.parametrize("strength", [0.0, 0.01])
def test_an_object_that_has_left_the_window_is_still_compared_with_its_annotation(strength: float) -> None:
    """It moves three cells a frame in a window of two, and what is carried is worn."""
    generator = torch.Generator().manual_seed(0)
    height, width, far = 8, 24, 12
    object_ = F.normalize(torch.randn(4, 4, 32, generator=generator), dim=-1)
    background = F.normalize(torch.randn(height, width, 32, generator=generator), dim=-1)

    def frame(left: int) -> Tensor:
        embedding = background.clone()
        embedding[2:6, left : left + 4] = object_
        return embedding

    ids = np.zeros((8 * height, 8 * width), np.uint8)
    ids[16:48, 8:40] = 1
    ids[16:24, 8:16] = 0  # a corner, which tells labels that are copied from ones that are worn
    settings = Propagation(
        size=None, context=(1,), radius=2, topk=1, margin=None, reach=None, bijective=0, annotated=strength
    )
    carrier = MaskCarrier(settings, 8)
    carrier.annotate(0, frame(1), (8 * height, 8 * width), Masks(ids))
    truth = from_patches(carrier._propagator.memory.annotated()[-1].patches, 2)
    worn = torch.zeros(2 * height, 2 * width, 2)
    worn[4:12, 2 * far : 2 * far + 8, 1] = 0.8
    worn[..., 0] = 1 - worn[..., 1]
    carrier._propagator.remember(1, frame(far), worn)
    found = carrier.step(2, frame(far + 1), np.zeros((8 * height, 8 * width, 3), np.uint8)).labels
    same = found[4:12, 2 * far + 2 : 2 * far + 10] == truth[4:12, 2:10]
    assert bool(same.all()) == bool(strength)

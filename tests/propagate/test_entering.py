"""What comes in at the edge of the frame, away from the object, is another thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label
from torch import Tensor

from vidtrack.labels.masks import Masks
from vidtrack.propagate.entering import NEAR, REST, SURE, drop_entering
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.settings import Propagation

HEIGHT, WIDTH = 20, 40


def grid(*boxes: tuple[int, int, int, int], value: float = 0.8) -> Tensor:
    """A label map with one object in boxes of rows and columns from, to."""
    labels = torch.zeros(HEIGHT, WIDTH, 3)
    for top, bottom, left, right in boxes:
        labels[top:bottom, left:right, 1] = value
    labels[..., 0] = 1 - labels[..., 1]
    return labels


BODY = (6, 14, 4, 14)
FAR = (8, 12, 37, 40)
GROWN = (3, 17, 3, 17)  # all that is near (9, 11, 9, 11), and more


@pytest.mark.parametrize("fine", [1, 2])
def test_a_piece_that_comes_in_away_from_the_object_is_background(fine: int) -> None:
    now = grid(BODY, FAR)
    kept = now.clone()
    found = drop_entering(now, grid(BODY), fine)
    assert torch.equal(now, kept)  # what is given stays as it is
    assert torch.equal(found, grid(BODY))
    assert torch.equal(drop_entering(grid(GROWN, FAR), grid((9, 11, 9, 11)), 1), grid(GROWN))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (grid(BODY), grid(BODY, (8, 12, 30, 38))),  # not at the edge: from behind something
        (grid(BODY, (0, 3, 4, 6)), grid(BODY, FAR)),  # the object goes on outside
        (grid(BODY), grid(BODY, (0, 2, 4, 6))),  # near enough to be a part that has moved
        (grid(BODY), grid(BODY, (10, 12, 14, 40))),  # in one piece with the object
        (grid(BODY), grid(BODY, (8, 10, 16, 19), (10, 12, 19, 40))),  # joined to what is near by a corner
        (grid(BODY), grid((6, 8, 4, 8), FAR)),  # the larger part: the object has jumped
        (grid(), grid(BODY, FAR)),  # there was no object
        (grid(BODY), grid(BODY) + grid(FAR, value=SURE)),  # not sure
    ],
)
def test_other_pieces_stay(before: Tensor, now: Tensor) -> None:
    assert drop_entering(now, before, 1) is now


def slow(now: np.ndarray, before: np.ndarray, fine: int) -> np.ndarray:
    """The rule by loops over pieces and pairs of places; bool `[h, w]`: what is dropped of one object."""
    height, width = now.shape
    edge = {
        (y, x) for y in range(height) for x in range(width) if min(y, x, height - 1 - y, width - 1 - x) < fine
    }
    gone = np.zeros_like(now)
    was = list(zip(*np.nonzero(before), strict=True))
    if not was or edge & set(was):
        return gone
    pieces = label(now, connectivity=2)
    for number in range(1, pieces.max() + 1):
        places = set(zip(*np.nonzero(pieces == number), strict=True))
        near = any(max(abs(y - v), abs(x - u)) <= NEAR * fine for y, x in places for v, u in was)
        if edge & places and not near:
            gone |= pieces == number
    return gone if gone.sum() <= (1 - REST) * now.sum() else np.zeros_like(now)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), fine=st.sampled_from([1, 2]))
def test_as_the_rule_says(seed: int, fine: int) -> None:
    """Random pieces of two objects, which are told apart by the rule taken word by word."""
    generator = np.random.default_rng(seed)
    frames = []
    for count in (2, 12):  # few pieces, mostly within the frame; many, some of which touch by a corner
        labels = np.zeros((HEIGHT * fine, WIDTH * fine, 3), np.float32)
        for _ in range(count):
            top, left = generator.integers(fine, HEIGHT * fine), generator.integers(fine, WIDTH * fine)
            size = generator.integers(1, 3 * fine, 2)
            where = np.s_[top - fine : top - fine + size[0], left - fine : left - fine + size[1]]
            labels[where][..., 1:] = 0
            labels[where][..., generator.integers(1, 3)] = 0.7
        labels[5 * fine : 9 * fine, 5 * fine : 12 * fine, 1:] = (0.7, 0)  # the body of the first
        labels[..., 0] = 1 - labels.sum(axis=-1)
        frames.append(labels)
    before, now = frames
    expected = now.copy()
    for k in (1, 2):
        gone = slow(now[..., k] > SURE, before[..., k] > SURE, fine)
        expected[gone] = 0
        expected[gone, 0] = 1
    found = drop_entering(torch.from_numpy(now), torch.from_numpy(before), fine)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("touches", "wanted"), [(False, True), (True, True), (False, False)])
def test_a_twin_that_enters_is_not_carried(touches: bool, wanted: bool) -> None:
    """The same thing once more at the other side: all that tells them apart is where it came from."""
    height, width = 10, 24
    generator = torch.Generator().manual_seed(0)
    background, thing = F.normalize(torch.randn(2, 32, generator=generator), dim=-1)
    top = 0 if touches else 3

    def frame(entered: int) -> Tensor:
        embedding = background.expand(height, width, 32).clone()
        embedding[top : top + 4, 4:10] = thing
        if entered:
            embedding[top : top + 2, width - entered :] = thing
        return embedding

    ids = np.zeros((8 * height, 8 * width), np.uint8)
    ids[8 * top : 8 * top + 32, 32:80] = 1
    image = np.zeros((8 * height, 8 * width, 3), np.uint8)
    plain = Propagation(size=None, context=(1,), radius=20, margin=None, reach=None, refine=False)
    settings = plain.model_copy(update={"drop_entering": wanted})
    carrier = MaskCarrier(settings, 8)
    carrier.annotate(0, frame(0), image.shape[:2], Masks(ids))
    for index in range(1, 4):
        carried = carrier.step(index, frame(index), image)
        masks, _ = carrier.read(carried, image)
        assert (masks.ids[8 * top + 8 : 8 * top + 24, 40:72] == 1).all()
        assert bool(masks.ids[:, -8:].any()) == (touches or not wanted)

"""The holes of inpainting: where they are, how large, and that they follow no grid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.draws import Draws
from pretrain.methods.inpainting import central_square, random_blocks


@pytest.mark.parametrize(("size", "first", "last"), [(16, 4, 11), (32, 8, 23), (128, 32, 95), (15, 4, 10)])
def test_central_square_has_half_the_side(size: int, first: int, last: int) -> None:
    mask = central_square(size)
    assert mask.shape == (1, 1, size, size) and mask.dtype == torch.bool
    rows, columns = mask[0, 0].nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (int(columns.min()), int(columns.max())) == (first, last)
    assert int(mask.sum()) == (last - first + 1) ** 2 == (size // 2) ** 2


@settings(max_examples=25, deadline=None)
@given(size=st.integers(8, 70), seed=st.integers(0, 1000), count=st.integers(1, 5))
def test_random_blocks_cover_about_a_quarter(size: int, seed: int, count: int) -> None:
    masks = random_blocks(Draws(seed, 0, count), size)
    assert masks.shape == (count, 1, size, size) and masks.dtype == torch.bool
    shares = masks.float().mean(dim=(1, 2, 3))
    assert shares.max() <= 0.25 and shares.min() >= 0.15


def test_random_blocks_are_a_slow_loop() -> None:
    size, count = 40, 6
    draws = Draws(3, 4, count)
    sides = 5 + draws.integers(6, 16, 2)  # 5..10: an eighth to a quarter
    places = draws.uniform(16, 2)
    for sample, mask in enumerate(random_blocks(Draws(3, 4, count), size)):
        slow = np.zeros((size, size), bool)
        for number in range(16):
            tall, wide = (int(side) for side in sides[sample, number])
            top = int(places[sample, number, 0] * (size - tall + 1))
            left = int(places[sample, number, 1] * (size - wide + 1))
            grown = slow.copy()
            grown[top : top + tall, left : left + wide] = True
            if grown.mean() <= 0.25:
                slow = grown
        assert (mask[0].numpy() == slow).all()


def test_random_blocks_follow_no_grid_and_reach_everywhere() -> None:
    masks = random_blocks(Draws(0, 0, 400), 32)[:, 0]
    starts = (masks[:, :, 1:] & ~masks[:, :, :-1]).float().mean(dim=(0, 1))  # left edges, by column
    assert (starts[:-4] > 0).all() and starts[2:22].max() < 2.5 * starts[2:22].min()
    assert masks.any(dim=0).float().mean() > 0.98
    assert 0.23 < masks.float().mean() <= 0.25
    assert len({mask.numpy().tobytes() for mask in masks}) == 400

"""Masks of patches: exact shares, where masked patches lie, and the order with visible ones first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.draws import Draws
from pretrain.masking import (
    BLOCKS,
    KINDS,
    LONGEST,
    SMALLEST,
    block_mask,
    dither,
    draw_mask,
    grid_mask,
    random_mask,
    take,
    visible_first,
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 16),
    columns=st.integers(1, 16),
    ratio=st.floats(0, 1),
    step=st.integers(0, 1000),
)
def test_every_sample_has_exactly_the_share(
    kind: Any, rows: int, columns: int, ratio: float, step: int
) -> None:
    mask = draw_mask(kind, Draws(0, step, 3), rows, columns, ratio)
    assert mask.shape == (3, rows * columns) and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [round(ratio * rows * columns)] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_pure_in_the_draws_and_differ_between_samples(kind: Any) -> None:
    whole = draw_mask(kind, Draws(3, 5, 8), 8, 8, 0.7)
    assert torch.equal(whole, draw_mask(kind, Draws(3, 5, 8), 8, 8, 0.7))
    assert not torch.equal(whole, draw_mask(kind, Draws(3, 6, 8), 8, 8, 0.7))
    assert len(whole.unique(dim=0)) > 4
    # Two processes see the halves, and their later draws stay in step.
    for rank in (0, 1):
        part = Draws(3, 5, 4, rank, 2)
        assert torch.equal(draw_mask(kind, part, 8, 8, 0.7), whole[4 * rank : 4 * rank + 4])
        all_of_it = Draws(3, 5, 8)
        draw_mask(kind, all_of_it, 8, 8, 0.7)
        assert torch.equal(part.uniform(), all_of_it.uniform()[4 * rank : 4 * rank + 4])


def test_random_masks_are_uniform_and_independent() -> None:
    count, patches, ratio = 20_000, 12, 0.75
    mask = random_mask(Draws(0, 0, count), patches, ratio).double()
    spread = math.sqrt(ratio * (1 - ratio) / count)
    assert (mask.mean(dim=0) - ratio).abs().max() < 4.5 * spread
    pairs = mask.T @ mask / count  # two patches are both masked with probability 9/12 * 8/11
    pairs = pairs[~torch.eye(patches, dtype=torch.bool)]
    both = 9 / 12 * 8 / 11
    assert (pairs - both).abs().max() < 4.5 * math.sqrt(both * (1 - both) / count)


def test_a_grid_keeps_one_of_each_four() -> None:
    mask = grid_mask(Draws(0, 0, 60), 8, 14, 0.75).view(-1, 8, 14)
    tiles = mask.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)  # [N, 4, 7, 4]
    assert (tiles.sum(dim=3) == 3).all()
    places = (~tiles).int().argmax(dim=3).flatten(1)  # the same place in each tile of a sample
    assert (places == places[:, :1]).all()
    assert places[:, 0].unique().tolist() == [0, 1, 2, 3]  # and every place in some sample


def test_a_grid_is_a_chessboard_at_half_and_even_at_other_ratios() -> None:
    half = grid_mask(Draws(0, 1, 5), 6, 8, 0.5).view(-1, 6, 8)
    assert (half[:, 1:] ^ half[:, :-1]).all() and (half[:, :, 1:] ^ half[:, :, :-1]).all()
    for ratio in (0.1, 0.3, 0.6, 0.85, 0.9):
        tiles = grid_mask(Draws(0, 2, 20), 16, 16, ratio).view(-1, 16, 16).unfold(1, 4, 4).unfold(2, 4, 4)
        counts = tiles.flatten(3).sum(dim=3)  # masked ones in each 4x4
        assert counts.max() - counts.min() <= 1


def test_the_dither_matrix_is_that_of_bayer() -> None:
    expected = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]
    assert dither(3).tolist() == dither(4).tolist() == expected
    assert dither(1).tolist() == [[0]] and dither(5).shape == (8, 8)
    assert dither(16).flatten().sort().values.tolist() == list(range(256))


def slow_blocks(drawn: np.ndarray, spare: np.ndarray, rows: int, columns: int, total: int) -> np.ndarray:
    """Algorithm 1 of BEiT for one sample, patch by patch, cut at the exact count."""
    mask = np.zeros((rows, columns), bool)
    smallest = max(1.0, SMALLEST * rows * columns)
    for area, shape, top, side in drawn:
        left = total - mask.sum()
        if not left:
            break
        area = smallest + max(0.0, left - smallest) * area
        aspect = LONGEST ** (2 * shape - 1)
        height = min(rows, max(1, round(math.sqrt(area * aspect))))
        width = min(columns, max(1, round(math.sqrt(area / aspect))))
        y, x = int((rows - height + 1) * top), int((columns - width + 1) * side)
        for row in range(y, y + height):
            for column in range(x, x + width):
                if not mask[row, column] and mask.sum() < total:
                    mask[row, column] = True
    flat = mask.flatten()
    for place in np.argsort(spare):
        if flat.sum() < total:
            flat[place] = True
    return flat


@pytest.mark.parametrize(
    ("rows", "columns", "ratio"), [(8, 8, 0.75), (6, 11, 0.4), (4, 4, 0.9), (14, 14, 0.97)]
)
def test_blocks_are_those_of_the_slow_algorithm(rows: int, columns: int, ratio: float) -> None:
    count = 40
    found = block_mask(Draws(1, 2, count), rows, columns, ratio)
    again = Draws(1, 2, count)
    drawn, spare = again.uniform(BLOCKS, 4).double().numpy(), again.uniform(rows * columns).numpy()
    total = round(ratio * rows * columns)
    expected = np.stack([slow_blocks(drawn[n], spare[n], rows, columns, total) for n in range(count)])
    assert np.array_equal(found.numpy(), expected)


def test_blocks_hang_together() -> None:
    def alike(mask: Tensor) -> float:  # share of neighbours that are both masked or both visible
        grid = mask.view(-1, 14, 14)
        return float((grid[:, 1:] == grid[:, :-1]).float().mean())

    blocks, singles = block_mask(Draws(0, 0, 50), 14, 14, 0.5), random_mask(Draws(0, 0, 50), 196, 0.5)
    assert alike(blocks) > 0.8 and abs(alike(singles) - 0.5) < 0.05


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(KINDS), side=st.integers(1, 12), ratio=st.floats(0, 1))
def test_visible_and_masked_patches_partition_the_image(kind: Any, side: int, ratio: float) -> None:
    mask = draw_mask(kind, Draws(0, 0, 4), side, side, ratio)
    order, restore = visible_first(mask)
    visible = side * side - round(ratio * side * side)
    for row in range(4):
        assert order[row, :visible].tolist() == (~mask[row]).nonzero()[:, 0].tolist()
        assert order[row, visible:].tolist() == mask[row].nonzero()[:, 0].tolist()
    x = torch.rand(4, side * side, 3)
    assert torch.equal(take(take(x, order), restore), x)


def test_taking_rows_is_gathering_with_its_gradient() -> None:
    x, weights = torch.rand(3, 7, 5, requires_grad=True), torch.rand(3, 4, 5)
    index = torch.randint(7, (3, 4))
    gathered = x.gather(1, index[:, :, None].expand(-1, -1, 5))
    assert torch.equal(take(x, index), gathered)
    (expected,) = torch.autograd.grad((gathered * weights).sum(), x)
    (found,) = torch.autograd.grad((take(x, index) * weights).sum(), x)
    torch.testing.assert_close(found, expected)


def test_no_such_kind() -> None:
    with pytest.raises(ValueError, match="no mask 'stripes'"):
        draw_mask("stripes", Draws(0, 0, 1), 4, 4, 0.5)  # type: ignore[arg-type]

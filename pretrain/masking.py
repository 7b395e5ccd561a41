"""Which patches of an image are hidden: at random, in blocks, or on a regular grid.

In every mask True means masked (hidden) and False means kept (visible). Patches are counted row by row. In
all three kinds each image of a batch has exactly `masked_count` masked patches, so that the visible ones of
a batch fill one tensor. All that is random comes from the draws.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pretrain.draws import Draws

Kind = Literal["random", "block", "grid"]
KINDS: tuple[Kind, ...] = ("random", "block", "grid")
BLOCKS = 32  # rectangles that are drawn for an image; patches still missing then are drawn one by one
SMALLEST = 16 / 196  # share of the patches in the smallest rectangle, as in BEiT
LONGEST = 1 / 0.3  # side over other side of a rectangle, at most


def masked_count(ratio: float, patches: int) -> int:
    """How many of so many patches are masked."""
    return round(ratio * patches)


def draw_mask(kind: Kind, draws: Draws, rows: int, columns: int, ratio: float) -> Tensor:
    """A mask for each sample, bool `[N, rows * columns]`; see the functions of the three kinds.

    Args:
        ratio: share of the patches that is masked, 0..1.
    """
    if kind == "random":
        return random_mask(draws, rows * columns, ratio)
    if kind == "block":
        return block_mask(draws, rows, columns, ratio)
    if kind == "grid":
        return grid_mask(draws, rows, columns, ratio)
    raise ValueError(f"there is no mask {kind!r}")


def random_mask(draws: Draws, patches: int, ratio: float) -> Tensor:
    """Any set of patches is as likely as any other: bool `[N, patches]`."""
    order = draws.permutations(patches)
    mask = torch.zeros_like(order, dtype=torch.bool)
    return mask.scatter_(1, order[:, : masked_count(ratio, patches)], True)


def block_mask(draws: Draws, rows: int, columns: int, ratio: float) -> Tensor:
    """Random rectangles until the share is reached: bool `[N, rows * columns]`.

    Block-wise masking of BEiT (Bao et al. 2021, arXiv 2106.08254, algorithm 1): a rectangle's area is
    uniform between `SMALLEST` and what is still to be masked, the logarithm of its aspect ratio is uniform
    up to `LONGEST` either way, and so is its place. There masks end somewhere near the share. Here a
    rectangle that would go beyond it is cut, from its last patch on; where `BLOCKS` rectangles aren't
    enough, patches are drawn at random.
    """
    patches = rows * columns
    total = masked_count(ratio, patches)
    drawn, spare = draws.uniform(BLOCKS, 4), draws.uniform(patches)
    mask = torch.zeros(draws.count, patches, dtype=torch.bool, device=draws.device)
    left = torch.full((draws.count,), float(total), device=draws.device)
    smallest = max(1.0, SMALLEST * patches)
    for area, shape, top, side in drawn.permute(1, 2, 0):  # each [N], of one rectangle
        area = smallest + (left - smallest).clamp(min=0) * area
        aspect = torch.exp(math.log(LONGEST) * (2 * shape - 1))  # height over width
        inside_rows = _stretch((area * aspect).sqrt(), top, rows)
        inside_columns = _stretch((area / aspect).sqrt(), side, columns)
        new = (inside_rows[:, :, None] & inside_columns[:, None, :]).flatten(1) & ~mask
        mask |= new & (new.cumsum(dim=1) <= left[:, None])
        left = total - mask.sum(dim=1).float()
        if not left.any():
            return mask
    rank = spare.masked_fill(mask, 2.0).argsort(dim=1).argsort(dim=1)
    return mask | (rank < left[:, None])


def grid_mask(draws: Draws, rows: int, columns: int, ratio: float) -> Tensor:
    """Evenly spread patches are kept: bool `[N, rows * columns]`.

    At 75 % one patch of each 2x2 is kept (He et al. 2022, arXiv 2111.06377, figure 6), at 50 % a
    chessboard. Between such ratios, and where the sides are odd, the kept ones are the first in the order
    of a dither matrix, see `dither`, which is as even as can be for any number. Where the pattern begins is
    drawn for each sample: with one place for all, most patches would never be seen.
    """
    patches = rows * columns
    order = dither(max(rows, columns)).to(draws.device)
    side = len(order)
    begin = draws.integers(side, 2)  # [N, 2]
    y = (torch.arange(rows, device=draws.device) + begin[:, :1]) % side  # [N, rows]
    x = (torch.arange(columns, device=draws.device) + begin[:, 1:]) % side  # [N, columns]
    ranks = order[y[:, :, None], x[:, None, :]].flatten(1)  # [N, patches]
    kept = ranks.argsort(dim=1)[:, : patches - masked_count(ratio, patches)]
    return torch.ones_like(ranks, dtype=torch.bool).scatter_(1, kept, False)


def dither(least: int) -> Tensor:
    """Bayer's matrix of ordered dithering (Bayer 1973): int64 `[side, side]`, each of 0 .. side² - 1 once.

    The cells below any number are spread evenly; the first quarter is one cell of each 2x2.

    Args:
        least: the side is the next power of two.
    """
    quarter = torch.tensor([[0, 2], [3, 1]])
    order = torch.zeros(1, 1, dtype=torch.int64)
    while len(order) < least:
        order = torch.kron(torch.ones_like(quarter), 4 * order) + torch.kron(quarter, torch.ones_like(order))
    return order


def visible_first(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The order that brings visible patches to the front, and its inverse, both int64 `[N, L]`.

    Visible and masked patches each stay row by row. With `order, restore = visible_first(mask)` and K
    visible patches `order[:, :K]` are the visible ones and `order[:, K:]` the masked ones, and
    `take(take(x, order), restore)` is x again.
    """
    order = mask.byte().argsort(dim=1, stable=True)
    return order, order.argsort(dim=1)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Some rows of each sample: x `[N, L, D]` and int64 `[N, K]` to `[N, K, D]`."""
    count, length, width = x.shape
    first = torch.arange(count, device=x.device)[:, None] * length
    rows = (index + first).flatten()
    return x.reshape(-1, width).index_select(0, rows).view(count, index.shape[1], width)


def _stretch(length: Tensor, place: Tensor, cells: int) -> Tensor:
    """Which cells of a line are inside: bool `[N, cells]`.

    Args:
        length: float `[N]`; rounded, at least one cell and at most all.
        place: float `[N]` in 0..1: from the first place where it fits to the last.
    """
    length = length.round().clamp(1, cells)
    begin = ((cells - length + 1) * place).floor()
    steps = torch.arange(cells, device=length.device)
    return (steps >= begin[:, None]) & (steps < (begin + length)[:, None])

"""Windowed top-k attention in tiles: exact, and no full affinity is ever built.

The query cells are covered with tiles of 8x8. All the windows of a tile lie in one square of
`8 + 2 * radius` cells per memory frame, so a tile needs one small matrix product. Which keys of the square
are outside a query's window, or may not be pointed to, is part of the product: extra channels (the query's
row and column in the tile, one-hot, against a penalty for the keys that they may not see) push such scores
below -1. Valid scores gain an exact zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidtrack.pointers.keys import PENALTY, TILE, Keys
from vidtrack.pointers.search import Search
from vidtrack.pointers.threads import in_threads


@dataclass
class Pointers:
    """Where the query cells point to.

    Attributes:
        cells: int64 `[n]`, the query cells that were computed, as `row * w + column`.
        index: int64 `[n, k]`, memory cells as `(frame * h + row) * w + column`, best first.
        weight: float32 `[n, k]`, sums to 1 over k; a window with fewer than k cells has zero weights, and
            one without any has only zeros.
        score: float32 `[n, k]`, the cosines; -inf where a window has fewer than k cells.
    """

    cells: Tensor
    index: Tensor
    weight: Tensor
    score: Tensor


def topk(
    query: Tensor,
    memory: list[Keys],
    radius: int,
    k: int,
    temperature: float,
    active: Tensor | None = None,
) -> Pointers:
    """The k best memory cells of each query cell within its window, softmax-weighted.

    The window is square: keys with |dx|, |dy| <= radius cells, in every memory frame. The k are the best of
    all frames together (Jabri et al. 2020, arXiv 2006.14613).

    Args:
        query: unit embeddings `[h, w, C]`.
        memory: each memory frame's `as_keys`, same size, radius, dtype and device.
        radius: half side of the window in cells.
        k: number of pointers per query cell.
        temperature: of the softmax over the k scores.
        active: bool `[h, w]`; other cells are left out of the result. None: all cells.

    Returns:
        Pointers of the active cells, in rising order.
    """
    height, width, _ = query.shape
    if active is None:
        active = torch.ones(height, width, dtype=torch.bool, device=query.device)
    k = min(k, len(memory) * (2 * radius + 1) ** 2)
    tiles = cover(active)
    search = Search(query, memory, radius, k)
    found = in_threads(search, tiles.split(search.batch), query.device) if len(tiles) else []
    empty = query.new_zeros(0, TILE * TILE, k)
    score = torch.cat([empty, *(f[0] for f in found)]).float().flatten(0, 1)  # [t*64, k]
    index = torch.cat([empty.long(), *(f[1] for f in found)]).flatten(0, 1)
    own = torch.arange(TILE, device=query.device)
    row = (tiles[:, 0, None, None] + own[:, None]).expand(-1, TILE, TILE).flatten()  # [t*64]
    column = (tiles[:, 1, None, None] + own).expand(-1, TILE, TILE).flatten()
    inside = (row < height) & (column < width)
    inside[inside.clone()] = active[row[inside], column[inside]]
    cells, order = (row * width + column)[inside].sort()
    score, index = score[inside][order], index[inside][order]
    score = score.masked_fill(score < -PENALTY / 2, float("-inf"))  # a window smaller than k
    weight = (score / temperature).softmax(dim=-1).nan_to_num(0)  # nan: nothing to point to at all
    return Pointers(cells, index.clamp(0, len(memory) * height * width - 1), weight, score)


def cover(active: Tensor) -> Tensor:
    """Tiles that cover the true cells of `[h, w]`, each once: their top left cells `[t, 2]`.

    Bands of 8 rows from the first such row on; in a band, a tile begins at the first cell not yet covered.
    """
    places = []
    rows = active.any(dim=1).cpu()
    top = 0
    grid = active.cpu().numpy()
    for row in rows.nonzero()[:, 0].tolist():
        if row < top:
            continue
        top = row + TILE
        left = 0
        for column in np.flatnonzero(grid[row:top].any(axis=0)).tolist():
            if column >= left:
                places.append((row, column))
                left = column + TILE
    return torch.tensor(places, dtype=torch.long, device=active.device).view(-1, 2)


def read(pointers: Pointers, values: Tensor) -> Tensor:
    """Copy values through the pointers.

    Args:
        pointers: see `topk`.
        values: float `[M * h * w, K]`, one row per memory cell.

    Returns:
        float `[n, K]`: for each computed query cell the weighted mean of the values it points to.
    """
    gathered = values[pointers.index.flatten()].view(*pointers.index.shape, values.shape[-1])  # [n, k, K]
    return torch.bmm(pointers.weight[:, None].to(values.dtype), gathered)[:, 0]

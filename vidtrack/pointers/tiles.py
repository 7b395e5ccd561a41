"""Windowed top-k attention in tiles: exact, and no full affinity is ever built.

The query frame is cut into tiles of 8x8 cells. All the windows of a tile lie in one square of
`8 + 2 * radius` cells per memory frame, so a tile needs one small matrix product per memory frame. Two things
make it fast on a CPU:

- Which keys of the square are outside a query's window, or outside the frame, is part of the product: extra
  channels (the query's row and column in the tile, one-hot, against a penalty for the keys that they may
  not see) push such scores below -1. Valid scores gain an exact zero.
- The k largest scores lie in the k groups of keys with the largest maxima, so that the costly selection
  runs over k groups instead of all keys. This is exact too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.pointers.threads import in_threads

TILE = 8  # cells per side of a query tile
PENALTY = 4.0  # a power of two, exact in bfloat16; unit vectors score at most 1, so it always loses
BORDER = 16  # channels for the border's penalty: one is used, the others keep rows of keys aligned
CHUNK_BYTES = 6 * 2**20  # working set of keys and scores of one chunk of tiles


@dataclass
class Pointers:
    """Where the query cells point to.

    Attributes:
        cells: int64 `[n]`, the query cells that were computed, as `row * w + column`.
        index: int64 `[n, k]`, memory cells as `(frame * h + row) * w + column`, best first.
        weight: float32 `[n, k]`, sums to 1 over k; a window with fewer than k cells has zero weights.
        score: float32 `[n, k]`, the cosines; -inf where a window has fewer than k cells.
    """

    cells: Tensor
    index: Tensor
    weight: Tensor
    score: Tensor


def as_keys(embedding: Tensor, radius: int) -> Tensor:
    """What `topk` searches: an embedding with a border, made once per memory frame.

    Args:
        embedding: unit vectors `[h, w, C]`.
        radius: half side of the window in cells.

    Returns:
        `[rows * 8 + 2 * radius, columns * 8 + 2 * radius, C + 16]`; channel C is a penalty outside the frame.
    """
    height, width, channels = embedding.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    keys = embedding.new_zeros(rows * TILE + 2 * radius, columns * TILE + 2 * radius, channels + BORDER)
    keys[..., channels] = -PENALTY
    inside = keys[radius : radius + height, radius : radius + width]
    inside[..., :channels] = embedding
    inside[..., channels] = 0
    return keys


def topk(
    query: Tensor,
    memory: list[Tensor],
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
        active: bool `[h, w]`; tiles without an active cell are left out of the result. None: all cells.

    Returns:
        Pointers of all cells of the tiles that were computed.
    """
    height, width, channels = query.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    tiles = _active_tiles(active, rows, columns, query.device)
    k = min(k, len(memory) * (2 * radius + 1) ** 2)
    queries = F.pad(query, (0, 0, 0, columns * TILE - width, 0, rows * TILE - height))
    queries = queries.view(rows, TILE, columns, TILE, channels).transpose(1, 2)  # [rows, columns, 8, 8, C]
    search = _Search(queries.reshape(rows * columns, TILE * TILE, channels), memory, radius, k, columns)
    parts = tiles.split(search.chunk) if len(tiles) else ()
    found = [search.empty(), *in_threads(search, parts, query.device)]
    scores, places = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
    return _assemble(scores, places, tiles, columns, radius, (height, width), temperature)


class _Search:
    """The search of one query frame; called with the numbers of a few tiles, in any thread.

    Args:
        queries: `[tiles, 64, C]`, all tiles of the frame in rows.
        memory, radius, k: see `topk`.
        columns: tiles in a row.
    """

    def __init__(self, queries: Tensor, memory: list[Tensor], radius: int, k: int, columns: int) -> None:
        self.queries, self.memory, self.k, self.columns = queries, memory, k, columns
        self.side = TILE + 2 * radius
        self.one_hot = _tile_channels(queries)  # [64, 32]
        self.window = _window_channels(radius, queries)  # [side, side, 16]
        self.depth = queries.shape[-1] + self.one_hot.shape[-1]
        per_tile = len(memory) * self.side**2 * (self.depth + TILE * TILE) * queries.element_size()
        self.chunk = max(1, CHUNK_BYTES // per_tile)

    def empty(self) -> tuple[Tensor, Tensor]:
        """The result for no tiles."""
        shape = (0, TILE * TILE, self.k)
        return self.queries.new_empty(shape), self.queries.new_empty(shape, dtype=torch.long)

    def __call__(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `[t, 64, k]` and places `[t, 64, k]` of the tiles, see `_select`."""
        split = self.depth - self.window.shape[-1]
        keys = self.queries.new_empty(len(tiles), len(self.memory), self.side, self.side, self.depth)
        keys[..., split:] = self.window
        for tile, number in enumerate(tiles.tolist()):
            top, left = number // self.columns * TILE, number % self.columns * TILE
            for frame, map_ in enumerate(self.memory):
                keys[tile, frame, :, :, :split] = map_[top : top + self.side, left : left + self.side]
        one_hot = self.one_hot.expand(len(tiles), -1, -1)
        return _select(torch.cat([self.queries[tiles], one_hot], dim=-1), keys, self.k)


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


def _active_tiles(active: Tensor | None, rows: int, columns: int, device: torch.device) -> Tensor:
    if active is None:
        return torch.arange(rows * columns, device=device)
    grid = F.pad(active, (0, columns * TILE - active.shape[1], 0, rows * TILE - active.shape[0]))
    return grid.view(rows, TILE, columns, TILE).any(dim=3).any(dim=1).flatten().nonzero()[:, 0]


def _window_channels(radius: int, like: Tensor) -> Tensor:
    """`[side, side, 16]`: per row (and column) of a tile, the penalty of the key rows it may not see."""
    key = torch.arange(TILE + 2 * radius, device=like.device)
    own = torch.arange(TILE, device=like.device)
    unseen = (key[:, None] < own) | (key[:, None] > own + 2 * radius)  # [side, 8]
    penalty = unseen.to(like.dtype) * -PENALTY
    side = len(key)
    return torch.cat(
        [penalty[:, None].expand(side, side, TILE), penalty[None].expand(side, side, TILE)], dim=-1
    )


def _tile_channels(like: Tensor) -> Tensor:
    """`[64, 32]`: a one for the frame's border channel, then one-hot row and column of each tile cell."""
    eye = torch.eye(TILE, dtype=like.dtype, device=like.device)
    rows, columns = eye[:, None].expand(TILE, TILE, TILE), eye[None].expand(TILE, TILE, TILE)
    border = eye.new_zeros(TILE, TILE, BORDER)
    border[..., 0] = 1
    return torch.cat([border, rows, columns], dim=-1).flatten(0, 1)


def _select(query: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best keys of each query of a chunk of tiles.

    Args:
        query: `[t, 64, D]`.
        keys: `[t, M, side, side, D]`.

    Returns:
        Scores `[t, 64, k]` and places int64 `[t, 64, k]` as `(frame * side + row) * side + column`.
    """
    count, frames, side, _, depth = keys.shape
    flat = keys.view(count * frames, side * side, depth)
    repeated = query[:, None].expand(-1, frames, -1, -1).reshape(count * frames, -1, depth)
    scores = torch.bmm(repeated, flat.transpose(1, 2))  # [t*M, 64, side²]
    cells = scores.shape[1]
    scores = scores.view(count, frames, cells, side, side)
    best = _row_maximum(scores).transpose(1, 2).reshape(count, cells, frames * side)  # a group: one key row
    groups = best.topk(min(k, frames * side), dim=-1).indices  # [t, 64, g]: frame * side + row
    frame, row = groups // side, groups % side
    tile = torch.arange(count, device=keys.device)[:, None, None]
    cell = torch.arange(cells, device=keys.device)[None, :, None]
    line = ((tile * frames + frame) * cells + cell) * side + row
    candidates = scores.view(-1, side)[line.flatten()].view(count, cells, -1)  # [t, 64, g*side]
    value, place = candidates.topk(k, dim=-1)
    group = groups.gather(-1, place // side)
    return value, group * side + place % side


def _row_maximum(scores: Tensor) -> Tensor:
    """Maximum over the last dimension by halving it: torch's own is seven times slower in bfloat16."""
    while (length := scores.shape[-1]) > 1:
        half = (length + 1) // 2
        scores = torch.maximum(scores[..., :half], scores[..., length - half :])
    return scores[..., 0]


def _assemble(
    score: Tensor,
    place: Tensor,
    tiles: Tensor,
    columns: int,
    radius: int,
    size: tuple[int, int],
    temperature: float,
) -> Pointers:
    """From places in tiles to cells of the frame; drops the cells that pad the last tiles."""
    height, width = size
    side = TILE + 2 * radius
    own = torch.arange(TILE, device=tiles.device)
    top, left = tiles // columns * TILE, tiles % columns * TILE
    row = (top[:, None, None] + own[:, None]).expand(-1, TILE, TILE).flatten(1)  # [t, 64]
    column = (left[:, None, None] + own[None, :]).expand(-1, TILE, TILE).flatten(1)
    frame = place // (side * side)
    key_row = top[:, None, None] - radius + place // side % side
    key_column = left[:, None, None] - radius + place % side
    index = (frame * height + key_row.clamp(0, height - 1)) * width + key_column.clamp(0, width - 1)
    inside = (row < height) & (column < width)
    value = score.float()[inside]
    value = value.masked_fill(value < -PENALTY / 2, float("-inf"))  # a window smaller than k
    weight = (value / temperature).softmax(dim=-1)
    return Pointers((row * width + column)[inside], index[inside], weight, value)

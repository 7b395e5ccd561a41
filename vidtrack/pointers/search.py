"""The search of one query frame, a few tiles at a time: which keys of their windows score highest.

The k largest scores lie in the k rows of keys with the largest maxima, so that the costly selection runs over
rows first and over the keys of k rows then. This is exact.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.pointers.keys import PENALTY, TILE, Keys, tile_channels, window_channels

CHUNK_BYTES = 256 * 2**20  # working set of keys and scores of one batch of tiles on an accelerator
Block = tuple[int, int, int, int, int]  # frame, first and last row and column of keys
GRAIN = 4  # cells: blocks of keys are cut to multiples of it, so that products have few different sizes


class Search:
    """The search of one query frame; called with the places of a few tiles, in any thread.

    Args:
        query: `[h, w, C]`.
        memory: keys of the memory frames.
        radius, k: see `topk`.
    """

    def __init__(self, query: Tensor, memory: list[Keys], radius: int, k: int) -> None:
        height, width, channels = query.shape
        self.memory, self.radius, self.k = memory, radius, k
        self.height, self.width = height, width
        self.side = TILE + 2 * radius
        self.query = query.new_zeros(self.height + TILE - 1, self.width + TILE - 1, channels)
        self.query[: self.height, : self.width] = query
        self.one_hot = tile_channels(query)  # [64, 32]
        self.window = window_channels(radius, query)  # [side, side, 16]
        self.depth = channels + self.one_hot.shape[-1]
        self.split = self.depth - self.window.shape[-1]
        per_tile = len(memory) * self.side**2 * (self.depth + TILE * TILE) * query.element_size()
        self.batch = 1 if query.device.type == "cpu" else max(1, CHUNK_BYTES // per_tile)
        self._local = threading.local()

    def __call__(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `[t, 64, k]`, best first, and memory cells int64 `[t, 64, k]` of the tiles at `[t, 2]`."""
        if self.query.device.type != "cpu":
            return self.batched(tiles)
        found = [self.cropped(top, left) for top, left in tiles.tolist()]
        return torch.stack([f[0] for f in found]), torch.stack([f[1] for f in found])

    def _tile(self, top: int, left: int) -> Tensor:
        cells = self.query[top : top + TILE, left : left + TILE].reshape(TILE * TILE, -1)
        return torch.cat([cells, self.one_hot], dim=-1)  # [64, D]

    def batched(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """All keys of the windows in one product: few calls, for devices where a call is what costs."""
        side, frames, places = self.side, len(self.memory), tiles.tolist()
        keys = self.query.new_empty(len(tiles), frames, side, side, self.depth)
        keys[..., self.split :] = self.window
        for tile, (top, left) in enumerate(places):
            for frame, kept in enumerate(self.memory):
                window = kept.map[top : top + side, left : left + side]
                keys[tile, frame, :, :, : self.split] = window
        query = torch.stack([self._tile(top, left) for top, left in places])  # [t, 64, D]
        scores = torch.bmm(query, keys.view(len(tiles), -1, self.depth).transpose(1, 2))  # [t, 64, M*side²]
        lines = scores.view(len(tiles), TILE * TILE, frames * side, side)
        groups = lines.amax(dim=-1).topk(min(self.k, frames * side), dim=-1).indices  # [t, 64, g]
        rows = lines.gather(2, groups[..., None].expand(-1, -1, -1, side)).flatten(2)  # [t, 64, g*side]
        value, place = rows.topk(self.k, dim=-1)
        group = groups.gather(-1, place // side)
        row = group % side + tiles[:, 0, None, None] - self.radius
        column = place % side + tiles[:, 1, None, None] - self.radius
        return value, (group // side * self.height + row) * self.width + column

    def cropped(self, top: int, left: int) -> tuple[Tensor, Tensor]:
        """Only those keys of the windows that may be pointed to: fewer numbers, for processors."""
        blocks = self._blocks(top, left)
        counts = [(r1 - r0) * (c1 - c0) for _, r0, r1, c0, c1 in blocks]
        keys, scores = self._buffers(max(counts), sum(counts))
        query, begin = self._tile(top, left), 0
        for (frame, r0, r1, c0, c1), count in zip(blocks, counts, strict=True):
            block = keys[:count].view(r1 - r0, c1 - c0, self.depth)
            block[..., : self.split] = self.memory[frame].map[r0:r1, c0:c1]
            block[..., self.split :] = self.window[r0 - top : r1 - top, c0 - left : c1 - left]
            # One frame at a time: its keys are still in the processor's cache.
            torch.mm(query, keys[:count].T, out=scores[:, begin : begin + count])  # [64, n]
            begin += count
        return self._select(scores, blocks)

    def _blocks(self, top: int, left: int) -> list[Block]:
        """Frame, rows and columns of the keys that the tile may point to, not empty."""
        blocks = []
        for frame, kept in enumerate(self.memory):
            r0, r1 = _within(top, self.side, *kept.rows)
            c0, c1 = _within(left, self.side, *kept.columns)
            if r0 < r1 and c0 < c1:
                blocks.append((frame, r0, r1, c0, c1))
        return blocks or [(0, top, top + self.side, left, left + self.side)]

    def _buffers(self, keys: int, scores: int) -> tuple[Tensor, Tensor]:
        """Memory of this thread for keys `[n, D]` and scores `[64, m]`: fresh memory is slow to touch."""
        if not hasattr(self._local, "keys"):
            self._local.keys = self.query.new_empty(self.side**2 * self.depth)
            self._local.scores = self.query.new_empty(TILE * TILE * len(self.memory) * self.side**2)
        own = self._local.keys[: keys * self.depth].view(keys, self.depth)
        # Lines of one length: oneDNN compiles, and keeps, a product for each distance between the lines.
        return own, self._local.scores.view(TILE * TILE, -1)[:, :scores]

    def _select(self, scores: Tensor, blocks: list[Block]) -> tuple[Tensor, Tensor]:
        """The k best of scores `[64, n]`, and their memory cells."""
        scores = scores.float()  # once: torch's maxima and selections are several times slower in bfloat16
        maxima, starts, lengths, firsts = [], [], [], []
        begin = 0
        for frame, r0, r1, c0, c1 in blocks:
            rows, length = r1 - r0, c1 - c0
            maxima.append(scores[:, begin : begin + rows * length].view(-1, rows, length).amax(dim=-1))
            first = (frame * self.height + r0 - self.radius) * self.width + c0 - self.radius
            starts.append(np.arange(begin, begin + rows * length, length))
            firsts.append(np.arange(first, first + rows * self.width, self.width))
            lengths.append(np.full(rows, length))
            begin += rows * length
        best = torch.cat(maxima, dim=1)  # [64, G]
        start, first_, length_ = (torch.from_numpy(np.concatenate(v)) for v in (starts, firsts, lengths))
        groups = best.topk(min(self.k, best.shape[1]), dim=1).indices  # [64, g]
        narrow, wide = min(c1 - c0 for *_, c0, c1 in blocks), max(c1 - c0 for *_, c0, c1 in blocks)
        step = torch.arange(wide)
        places = (start[groups][..., None] + step).clamp_(max=begin - 1)  # [64, g, wide]
        rows_ = scores.gather(1, places.flatten(1)).view(places.shape)
        if narrow < wide:
            rows_ = rows_.masked_fill(step >= length_[groups][..., None], -2 * PENALTY)
        flat = rows_.flatten(1)
        value, place = flat.topk(min(self.k, flat.shape[1]), dim=1)  # [64, k]
        cell = first_[groups.gather(1, place // wide)] + place % wide
        missing = self.k - value.shape[1]
        if missing:
            value = F.pad(value, (0, missing), value=-2 * PENALTY)
            cell = F.pad(cell, (0, missing))
        return value, cell


def _within(begin: int, side: int, low: int, high: int) -> tuple[int, int]:
    """The part of `begin .. begin + side` that covers `low .. high`, cut at multiples of `GRAIN` of it."""
    first = max(0, low - begin) // GRAIN * GRAIN
    last = min(side, -(-(high - begin) // GRAIN) * GRAIN)
    return begin + first, begin + max(first, last)

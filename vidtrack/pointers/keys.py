"""What pointers are searched among: the embedding of a memory frame, prepared once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 8  # cells per side of a query tile
PENALTY = 4.0  # a power of two, exact in bfloat16; unit vectors score at most 1, so it always loses
BORDER = 16  # channels for the penalty: one is used, the others keep rows of keys aligned


@dataclass(eq=False)
class Keys:
    """A memory frame, with a border that holds every window.

    Attributes:
        map: `[h + 2 * radius + 7, w + 2 * radius + 7, C + 16]`; channel C is a penalty where nothing may be
            pointed to. Cell (y, x) of the frame stands at (y + radius, x + radius).
        rows, columns: the part of `map` outside of which everything is penalised.
    """

    map: Tensor
    rows: tuple[int, int]
    columns: tuple[int, int]


def as_keys(embedding: Tensor, radius: int, valid: Tensor | None = None) -> Keys:
    """What `topk` searches, made once per memory frame.

    Args:
        embedding: unit vectors `[h, w, C]`.
        radius: half side of the window in cells.
        valid: bool `[h, w]`, cells that may be pointed to; None: all.
    """
    height, width, channels = embedding.shape
    border = 2 * radius + TILE - 1
    map_ = embedding.new_zeros(height + border, width + border, channels + BORDER)
    map_[..., channels] = -PENALTY
    inside = map_[radius : radius + height, radius : radius + width]
    if valid is None:
        inside[..., :channels] = embedding
        inside[..., channels] = 0
        return Keys(map_, (radius, radius + height), (radius, radius + width))
    rows, columns = _span(valid.any(dim=1)), _span(valid.any(dim=0))
    part = (slice(*rows), slice(*columns))
    seen = valid[part]
    inside[part][..., :channels] = embedding[part] * seen[..., None]
    inside[part][..., channels] = (seen.to(embedding.dtype) - 1) * PENALTY
    return Keys(map_, (radius + rows[0], radius + rows[1]), (radius + columns[0], radius + columns[1]))


def rearranged(keys: Keys, origin: Tensor, radius: int) -> Keys:
    """The keys of the same frame with its cells in other places.

    Args:
        keys: see `as_keys`.
        origin: int64 `[h, w]`: which cell of the frame, as `row * w + column`, a place shows; -1: none, so
            that it can't be pointed to.
        radius: that the keys were made for.
    """
    (height, width), there = origin.shape, origin >= 0
    channels = keys.map.shape[-1] - BORDER
    map_ = torch.zeros_like(keys.map)
    map_[..., channels] = -PENALTY
    own = origin[there]
    map_[radius : radius + height, radius : radius + width][there] = keys.map[
        own // width + radius, own % width + radius
    ]
    rows, columns = _span(there.any(dim=1)), _span(there.any(dim=0))
    return Keys(map_, (radius + rows[0], radius + rows[1]), (radius + columns[0], radius + columns[1]))


def _span(inside: Tensor) -> tuple[int, int]:
    """First and last (exclusive) true place of a bool vector; (0, 0) if there is none."""
    places = inside.nonzero()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def window_channels(radius: int, like: Tensor) -> Tensor:
    """`[side, side, 16]`: per row (and column) of a tile, the penalty of the key rows it may not see."""
    key = torch.arange(TILE + 2 * radius, device=like.device)
    own = torch.arange(TILE, device=like.device)
    unseen = (key[:, None] < own) | (key[:, None] > own + 2 * radius)  # [side, 8]
    penalty = unseen.to(like.dtype) * -PENALTY
    side = len(key)
    return torch.cat(
        [penalty[:, None].expand(side, side, TILE), penalty[None].expand(side, side, TILE)], dim=-1
    )


def tile_channels(like: Tensor) -> Tensor:
    """`[64, 32]`: a one for the border's channel, then one-hot row and column of each tile cell."""
    eye = torch.eye(TILE, dtype=like.dtype, device=like.device)
    rows, columns = eye[:, None].expand(TILE, TILE, TILE), eye[None].expand(TILE, TILE, TILE)
    border = eye.new_zeros(TILE, TILE, BORDER)
    border[..., 0] = 1
    return torch.cat([border, rows, columns], dim=-1).flatten(0, 1)

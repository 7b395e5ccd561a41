"""From the user's masks to a label map of the cells."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vidtrack.geometry import to_cells


def masks_to_cells(
    ids: np.ndarray, void: np.ndarray | None, objects: list[int], size: tuple[int, int], stride: int
) -> Tensor:
    """Label map of an annotated frame.

    An object that wins no cell, because it is smaller than one, gets the cell where it is largest: it
    would vanish at once otherwise.

    Args:
        ids: uint8 `[H, W]`, 0 background.
        void: bool `[H, W]`, pixels that carry no label, or None.
        objects: the ids of channels 1.., in this order; other ids count as background.
        size: working size `(height, width)` of the embedding.
        stride: pixels per cell.

    Returns:
        float32 `[h, w, 1 + len(objects)]`, channel 0 background; the sum is below 1 where void pixels are.
    """
    labelled = np.ones(ids.shape, np.float32) if void is None else (~void).astype(np.float32)
    total = _cells(labelled, size, stride)
    total[total > 1 - 1e-4] = 1  # rounding of the resize: such cells must count as purely background
    maps = torch.zeros(*total.shape, 1 + len(objects))
    for channel, number in enumerate(objects, start=1):  # one by one: a frame has up to 254 objects
        maps[..., channel] = _cells((ids == number).astype(np.float32) * labelled, size, stride)
    maps[..., 0] = (total - maps[..., 1:].sum(dim=-1)).clamp(min=0)
    _give_cells_to_tiny_objects(maps)
    return maps


def _give_cells_to_tiny_objects(maps: Tensor) -> None:
    """Each object without a winning cell gets one, in place; never one that another object lives by."""
    shares = maps.clone()
    winner = shares.argmax(dim=-1)  # [h, w]
    wins = torch.bincount(winner.flatten(), minlength=maps.shape[-1]).tolist()
    for channel in range(1, maps.shape[-1]):
        share = shares[..., channel]
        if wins[channel] or share.max() <= 0:
            continue
        row, column = divmod(int(share.argmax()), share.shape[1])
        y, x = torch.meshgrid(*(torch.arange(n) for n in share.shape), indexing="ij")
        distance = (y - row).abs() + (x - column).abs()
        for cell in (distance - share).flatten().argsort(stable=True).tolist():
            y0, x0 = divmod(cell, share.shape[1])
            owner = int(winner[y0, x0])
            if owner == 0 or wins[owner] > 1:
                maps[y0, x0] = 0
                maps[y0, x0, channel] = 1
                winner[y0, x0] = channel
                wins[owner] -= 1
                wins[channel] += 1
                break


def _cells(values: np.ndarray, size: tuple[int, int], stride: int) -> Tensor:
    return to_cells(torch.from_numpy(values)[None], size, stride)[0].clamp(0, 1)

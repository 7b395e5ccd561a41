"""From the label map of the cells to the ids and the confidence of the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from vidtrack.geometry import to_pixels


def winners(
    labels: Tensor, size: tuple[int, int], stride: int, original: tuple[int, int]
) -> tuple[Tensor, dict[int, float]]:
    """Up-sample soft labels to pixels and take the most probable channel of each.

    Channels are up-sampled one after the other, each only around the cells where it has any mass, so that
    memory does not grow with the number of objects.

    Args:
        labels: float `[h, w, K]`, channel 0 background.
        size: working size `(height, width)`.
        stride: pixels per cell.
        original: `(height, width)` of the result.

    Returns:
        Channel numbers uint8 `[H, W]` on the CPU, and per winning channel k >= 1 the mean probability
        inside its pixels.
    """
    maps = labels.permute(2, 0, 1).contiguous()  # [K, h, w]
    best = to_pixels(maps[:1], size, stride, original)[0]  # [H, W]
    ids = torch.zeros(original, dtype=torch.uint8, device=labels.device)
    for channel in range(1, len(maps)):
        box = _support(maps[channel], size, stride, original)
        if box is None:
            continue
        rows, columns = box
        probability = to_pixels(maps[channel : channel + 1], size, stride, original, rows, columns)[0]
        wins = probability > best[rows, columns]
        ids[rows, columns] = ids[rows, columns].masked_fill(wins, channel)
        best[rows, columns] = torch.maximum(best[rows, columns], probability)
    area = torch.bincount(ids.flatten().int(), minlength=len(maps))
    mass = torch.bincount(ids.flatten().int(), weights=best.flatten(), minlength=len(maps))
    confidence = {k: float(mass[k] / area[k]) for k in range(1, len(maps)) if area[k] > 0}
    return ids.cpu(), confidence


def _support(
    map_: Tensor, size: tuple[int, int], stride: int, original: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Pixels that a channel's non-zero cells can reach; None if it has none."""
    cells = map_.nonzero()
    if not len(cells):
        return None
    low, high = cells.min(dim=0).values.tolist(), cells.max(dim=0).values.tolist()
    slices = []
    for axis in range(2):
        scale = original[axis] / size[axis]
        begin = int((low[axis] - 1) * stride * scale)
        end = int((high[axis] + 2) * stride * scale) + 1
        slices.append(slice(max(0, begin), min(original[axis], end)))
    return slices[0], slices[1]

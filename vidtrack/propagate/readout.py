"""From the label map of the cells to the ids and the confidence of the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from vidtrack.geometry import to_pixels
from vidtrack.propagate.refine import REACH, Guide


def winners(
    labels: Tensor,
    size: tuple[int, int],
    stride: int,
    original: tuple[int, int],
    image: Tensor | None = None,
    foreground: float = 1.0,
) -> tuple[Tensor, dict[int, float]]:
    """Up-sample soft labels to pixels and take the most probable channel of each.

    An object in whose pixels the background is on average more likely has none: so thinly spread is what one
    that is gone leaves behind, and the weight of the objects, which is there for their edges, would show it.

    Channels are up-sampled one after the other, each only around the cells where it has any mass, so that
    memory does not grow with the number of objects.

    Args:
        labels: float `[h, w, K]`, channel 0 background.
        size: working size `(height, width)`.
        stride: pixels per cell.
        original: `(height, width)` of the result.
        image: the frame, uint8 `[H, W, 3]`, to snap the objects to its edges; None is plain bilinear
            up-sampling.
        foreground: weight of the objects against the background.

    Returns:
        Channel numbers uint8 `[H, W]` on the CPU, and per winning channel k >= 1 the mean probability
        inside its pixels.
    """
    maps = labels.permute(2, 0, 1).contiguous()  # [K, h, w]
    ids = torch.zeros(original, dtype=torch.uint8, device=labels.device)
    best = torch.zeros(original, device=labels.device)
    total = torch.zeros(original, device=labels.device)
    boxes = {k: box for k in range(1, len(maps)) if (box := _support(maps[k], size, stride, original))}
    guide = None if image is None or not boxes else Guide(image, size, *_around(list(boxes.values())))
    for channel, box in boxes.items():
        if guide is None:
            probability = to_pixels(maps[channel : channel + 1], size, stride, original, *box)[0]
        else:
            probability = guide.refine(maps[channel], stride, *box)
            if probability.max() < 0.5 < maps[channel].max():  # smaller than the filter's window: keep it
                probability = to_pixels(maps[channel : channel + 1], size, stride, original, *box)[0]
        ids[box] = ids[box].masked_fill(probability > best[box], channel)
        best[box] = torch.maximum(best[box], probability)
        total[box] += probability
    # Both ways of up-sampling are linear and the channels sum to 1, so the background is what is left.
    ids.masked_fill_(foreground * best <= 1 - total, 0)
    flat, count = ids.flatten().int(), len(maps)
    area = torch.bincount(flat, minlength=count)
    mass = torch.bincount(flat, weights=best.flatten(), minlength=count)
    rest = torch.bincount(flat, weights=(1 - total).flatten(), minlength=count)
    shown = (area > 0) & (mass >= rest)
    ids[~shown[ids.long()]] = 0
    confidence = {k: min(1.0, float(mass[k] / area[k])) for k in range(1, count) if shown[k]}
    return ids.cpu(), confidence


def _around(boxes: list[tuple[slice, slice]]) -> tuple[slice, slice]:
    """The smallest box that holds all boxes."""
    rows, columns = zip(*boxes, strict=True)
    return _join(rows), _join(columns)


def _join(slices: tuple[slice, ...]) -> slice:
    return slice(min(s.start for s in slices), max(s.stop for s in slices))


def _support(
    map_: Tensor, size: tuple[int, int], stride: int, original: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Pixels that a channel's non-zero cells can reach, refined or not; None if it has none."""
    cells = map_.nonzero()
    if not len(cells):
        return None
    low, high = cells.min(dim=0).values.tolist(), cells.max(dim=0).values.tolist()
    reach = stride + REACH  # bilinear weights end one cell away
    slices = []
    for axis in range(2):
        scale = original[axis] / size[axis]
        begin = int((low[axis] * stride - reach) * scale)
        end = int(((high[axis] + 1) * stride + reach) * scale) + 1
        slices.append(slice(max(0, begin), min(original[axis], end)))
    return slices[0], slices[1]

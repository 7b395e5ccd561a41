"""What comes into the picture away from an object is another thing, however much it looks like it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrack.propagate.motion import spread

SURE = 0.5  # an object is where its label is larger than this
NEAR = 5  # cells around an object within which a piece of it may come up
REST = 0.5  # share of an object that must lie elsewhere: else it is the object itself that has jumped


def drop_entering(labels: Tensor, before: Tensor, fine: int) -> Tensor:
    """Labels without what has come in at the edge of the frame and can't be a part of its object.

    A thing that the memory has never seen points to whatever looks most like it, and from then on it is
    carried as a piece of that. But an object that did not touch the edge has no part outside that could come
    in. So a connected piece at the edge becomes background if it is of an object that did not touch the edge
    in the frame before, and of which nothing was near. If that were more than half of the object, the object
    itself has moved far, and keeps it.

    Args:
        labels: float `[fine * h, fine * w, K]`, channel 0 background.
        before: the same of the frame before.
        fine: labels per cell, along rows and columns.

    Returns:
        `labels` itself, or a copy without these pieces.
    """
    result = labels
    for k in range(1, labels.shape[-1]):
        sure, was = labels[..., k] > SURE, before[..., k] > SURE
        if not _at_edge(sure, fine).any() or _at_edge(was, fine).any() or not was.any():
            continue
        count, numbers = cv2.connectedComponents(sure.cpu().numpy().astype(np.uint8), connectivity=8)
        pieces = torch.from_numpy(numbers).to(labels.device)  # [fine * h, fine * w], 0 where it is not
        foreign = torch.zeros(count, dtype=torch.bool, device=labels.device)
        foreign[_at_edge(pieces, fine)] = True
        foreign[pieces[spread(was, NEAR * fine)]] = False
        foreign[0] = False
        gone = foreign[pieces]
        if not gone.any() or gone.sum() > (1 - REST) * sure.sum():
            continue
        if result is labels:
            result = labels.clone()
        result[..., 0] += result[..., k] * gone
        result[..., k] *= ~gone
    return result


def _at_edge(grid: Tensor, fine: int) -> Tensor:
    """The outermost cells of a grid, one after the other."""
    rows, columns = grid[:fine], grid[:, :fine]
    return torch.cat([part.flatten() for part in (rows, grid[-fine:], columns, grid[:, -fine:])])

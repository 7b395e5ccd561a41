"""How two passes over one frame, from the annotation before it and from the one after it, become one.

What both share: a pass counts by how near its annotation is in time, and by how far it can be trusted. Either
pass may have lost an object that the other still has. In a plain mean over the two the background would win
there, since each pass is sure of the background wherever it has nothing; so each object is weighed by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidtrack.propagate.propagator import Carried

FLOOR = 0.1  # decidedness of an object that a pass has lost or never knew: its word still counts a little


def decidedness(labels: Tensor) -> Tensor:
    """How clearly each channel is there: the mean of its values, weighed by themselves.

    It is 1 where a channel is all or nothing, and near 0 where only a faint trace of it is left.

    Args:
        labels: float `[h, w, K]`, 0..1.

    Returns:
        float `[K]`, `FLOOR`..1.
    """
    mass = labels.sum(dim=(0, 1))
    return (labels.square().sum(dim=(0, 1)) / mass.clamp(min=1e-6)).clamp(FLOOR, 1)


def mean(earlier: Carried, later: Carried, first: Tensor, second: Tensor) -> Carried:
    """The weighted mean of two label maps, and the larger similarity.

    Args:
        earlier, later: what two passes carried to one frame, `[h, w, K]`.
        first, second: their weights, at least 0 and not both 0, of a shape that broadcasts to `[h, w, K]`.
    """
    labels = (first * earlier.labels + second * later.labels) / (first + second)
    return Carried(labels, torch.maximum(earlier.similarity, later.similarity))

"""The DAVIS / PASCAL VOC palette: one fixed colour for each id, the same in every mask file and overlay."""

from __future__ import annotations

import numpy as np

VOID = 255  # the index by which DAVIS, PASCAL VOC and our own files mark pixels without a label


def _palette() -> np.ndarray:
    """Spread the bits of the id over the channels: bits 0, 3, 6 are red, 1, 4, 7 green, 2, 5 blue.

    The lowest bit of the id becomes the highest bit of its channel, so that neighbouring ids look unlike.
    """
    ids = np.arange(256)
    table = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        table[:, bit % 3] |= (((ids >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return table


PALETTE = _palette()  # uint8 [256, 3] RGB: 0 black, 1 (128, 0, 0), 2 (0, 128, 0), ... 255 (224, 224, 192)


def color(object_id: int) -> tuple[int, int, int]:
    """RGB colour of an id 0..255."""
    red, green, blue = (int(channel) for channel in PALETTE[object_id])
    return red, green, blue

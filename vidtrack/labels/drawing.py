"""Objects drawn one over the other into one id map: what labelme and COCO have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.labels.masks import MAX_OBJECTS, Masks

MAX_PIXELS = 1 << 28


def canvas_size(height: Any, width: Any, where: str) -> tuple[int, int]:
    """`(height, width)` from JSON.

    Raises:
        InputError: they aren't sensible numbers of pixels.
    """
    if type(height) is int and type(width) is int and min(height, width) > 0 and height * width <= MAX_PIXELS:
        return height, width
    raise InputError(f"{where} has no usable image size (height {height!r}, width {width!r}): add the size.")


class Canvas:
    """An id map on which later objects cover earlier ones."""

    def __init__(self, size: tuple[int, int], where: str) -> None:
        self.size = size
        self.where = where
        self.masks = Masks(np.zeros(size, np.uint8))

    def next_id(self, used: int, name: str | None) -> int:
        """The id after `used` objects, named `name`; raises InputError after 254."""
        if used >= MAX_OBJECTS:
            raise InputError(f"{self.where} has more than 254 objects: keep at most 254.")
        if name:
            self.masks.names[used + 1] = name
        return used + 1

    def draw(self, region: np.ndarray, object_id: int) -> None:
        """Give the pixels of `region` (bool `[H, W]`) to `object_id`."""
        self.masks.ids[region] = object_id
        if self.masks.void is not None:
            self.masks.void[region] = False

    def draw_void(self, region: np.ndarray) -> None:
        """Take every label from the pixels of `region`."""
        self.draw(region, 0)
        if self.masks.void is None:
            self.masks.void = np.zeros(self.size, np.bool_)
        self.masks.void[region] = True

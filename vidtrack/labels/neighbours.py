"""What surrounds a pixel: the two neighbourhood operations by which edge pixels are told from objects."""

from __future__ import annotations

import cv2
import numpy as np

# Sides of the square in which the parents of an edge pixel are sought, tried in turn: anti-aliasing spreads
# over a pixel or two, a soft brush over more; the wider the square, the more small objects look like edges.
WIDTHS = (9, 17, 33, 65)


def extremes(values: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value in the square of odd `width` around each pixel.

    Args:
        values: uint8 or float32, `[H, W]` or `[H, W, C]` (each channel by itself).
    """
    kernel = np.ones((width, width), np.uint8)
    return cv2.erode(values, kernel), cv2.dilate(values, kernel)


def flat(values: np.ndarray) -> np.ndarray:
    """bool `[H, W]`: True where a pixel and its eight neighbours have the same value.

    Args:
        values: numbers `[H, W]` below 2**24, which float32 holds exactly.
    """
    low, high = extremes(values.astype(np.float32), 3)
    return low == high

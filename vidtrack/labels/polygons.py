"""Filling polygons as COCO does: a pixel is inside if its centre is, and pixel (0, 0) covers 0..1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vidtrack.labels.rle import decode


def fill(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask bool `[H, W]` of a polygon; fewer than three points fill nothing.

    Args:
        points: float `[N, 2]`, (x, y) with the image's corner at (0, 0).
        size: `(height, width)`.
    """
    from pycocotools import mask as coco

    height, width = size
    # pycocotools allocates by the polygon's extent: a far-away point would take all memory, so clip first.
    # One pixel of margin keeps the clipped edges out of the image.
    for axis, limit in ((0, width + 1.0), (1, height + 1.0)):
        points = _clip(points, axis, -1.0, 1.0)
        points = _clip(points, axis, limit, -1.0)
    if len(points) < 3:
        return np.zeros(size, np.bool_)
    encoded = coco.frPyObjects([points.ravel().tolist()], height, width)[0]
    return decode(encoded["counts"], size, "polygon")


def _clip(points: np.ndarray, axis: int, limit: float, sign: float) -> np.ndarray:
    """One step of Sutherland-Hodgman: the part of the polygon where `sign * (coordinate - limit) >= 0`."""
    kept: list[np.ndarray] = []
    for previous, point in zip(np.roll(points, 1, axis=0), points, strict=True):
        before, now = sign * (previous[axis] - limit), sign * (point[axis] - limit)
        if (before < 0) != (now < 0):
            crossing = previous + (point - previous) * (before / (before - now))
            crossing[axis] = limit
            kept.append(crossing)
        if now >= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def circle(center: np.ndarray, edge: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask bool `[H, W]` of the circle around `center` (x, y) through `edge` (x, y)."""
    y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5  # centres of the pixels
    return np.hypot(x - center[0], y - center[1]) <= math.dist(center, edge)


def points_from(value: Any) -> np.ndarray | None:
    """Float `[N, 2]` from JSON `[[x, y], ...]` or `[x, y, x, y, ...]`; None if it's neither.

    Coordinates beyond 1e6 are refused like text or NaN: no picture is that large.
    """
    if not isinstance(value, list):
        return None
    pairs = value and all(isinstance(point, list) and len(point) == 2 for point in value)
    flat = [number for point in value for number in point] if pairs else value
    if len(flat) % 2 or not all(type(n) in (int, float) and abs(n) <= 1e6 for n in flat):
        return None
    return np.array(flat, np.float64).reshape(-1, 2)

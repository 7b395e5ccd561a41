"""Lines, discs and rings at fractions of a pixel, so that marks move as smoothly as what they follow."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vidtrack.labels.palette import color as palette_color

Color = tuple[int, int, int]
Point = Sequence[float] | np.ndarray

_SHIFT = 4  # fractional bits of OpenCV's coordinates: sixteenths of a pixel
_FAR = 1 << 20  # pixels; farther points overflow OpenCV's integers


def mark_color(number: int) -> Color:
    """The palette's RGB colour of object `number`, from 1; after 254 the colours repeat."""
    return palette_color((number - 1) % 254 + 1)


def light(color: Color) -> Color:
    """A light tint of `color`, which stands out from dark pictures and from the colour itself."""
    red, green, blue = (round(255 - (255 - channel) * 0.35) for channel in color)
    return red, green, blue


def check_image(image: np.ndarray) -> None:
    """Raises ValueError unless `image` is uint8 `[H, W, 3]`."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")


def rim_width(image: np.ndarray) -> int:
    """Pixels of the light rim of a mark: 1, and more for frames whose short side is above 360."""
    return max(1, round(min(image.shape[:2]) / 240))


def draw_path(image: np.ndarray, points: np.ndarray, color: Color, *, closed: bool = False) -> None:
    """A line through points in `color` with a light rim on both sides, in place.

    Args:
        image: uint8 `[H, W, 3]`.
        points: float `[M, 2]`, (x, y) pixels with pixel centres at integers; if one is absurdly far away
            nothing is drawn.
        color: RGB.
        closed: go back from the last point to the first.
    """
    if not np.abs(points).max() < _FAR:
        return
    path, rim = [np.rint(points * (1 << _SHIFT)).astype(np.int32)], rim_width(image)
    cv2.polylines(image, path, closed, light(color), 3 * rim, cv2.LINE_AA, _SHIFT)
    cv2.polylines(image, path, closed, color, rim, cv2.LINE_AA, _SHIFT)


def draw_disc(image: np.ndarray, center: Point, radius: float, color: Color) -> None:
    """A disc in `color` inside a light rim, in place; arguments as of `draw_ring`."""
    if not np.abs(center).max() < _FAR:
        return
    for size, paint in ((radius + rim_width(image), light(color)), (radius, color)):
        cv2.circle(image, _fixed(center), round(size * (1 << _SHIFT)), paint, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def draw_ring(
    image: np.ndarray, center: Point, radius: float, color: Color, inside: np.ndarray | None = None
) -> None:
    """A circle in `color` inside a light rim, in place; its middle is left, or filled from another picture.

    Args:
        image: uint8 `[H, W, 3]`.
        center: `(x, y)` pixels, pixel centres at integers; left out if absurdly far away.
        radius: pixels.
        color: RGB.
        inside: uint8 `[H, W, 3]` that shows through the ring, where lines were drawn over `image`.
    """
    if not np.abs(center).max() < _FAR:
        return
    rim, place = rim_width(image), _fixed(center)
    if inside is not None:
        hole = np.zeros(image.shape[:2], np.uint8)
        cv2.circle(hole, place, round(radius * (1 << _SHIFT)), 1, cv2.FILLED, shift=_SHIFT)
        cv2.copyTo(inside, hole, image)
    for size, paint in ((radius + rim, light(color)), (radius, color)):
        cv2.circle(image, place, round(size * (1 << _SHIFT)), paint, rim, cv2.LINE_AA, _SHIFT)


def _fixed(point: Point) -> tuple[int, int]:
    """`(x, y)` in sixteenths of a pixel."""
    return round(float(point[0]) * (1 << _SHIFT)), round(float(point[1]) * (1 << _SHIFT))

"""Small text on pictures: one font, always legible, never outside the picture."""

from __future__ import annotations

import unicodedata

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNIT = cv2.getTextSize("0", _FONT, 1.0, 1)[0][1]  # pixels of height of a digit at scale 1


def printable(text: str) -> str:
    """`text` in ASCII, all that OpenCV's font has: accents are dropped, other letters become `?`."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c if " " <= c <= "~" else "?" for c in plain if not unicodedata.combining(c))


def text_size(text: str, height: float) -> tuple[int, int]:
    """`(width, height)` in pixels of the box that `put_text` fills for letters `height` pixels high."""
    scale, thickness, halo = _strokes(height)
    (width, upper), lower = cv2.getTextSize(text, _FONT, scale, thickness)
    return width + 2 * halo, upper + lower + 2 * halo


def put_text(
    image: np.ndarray, text: str, center: tuple[float, float], height: float, color: tuple[int, int, int]
) -> None:
    """Draw `text` in `color` with a contrasting halo, in place.

    Args:
        image: uint8 `[H, W, 3]`.
        text: ASCII, see `printable`.
        center: `(x, y)` of the middle; moved as far as needed to keep the text inside the image. Text that
            is larger than the image is left out.
        height: of a digit, in pixels.
        color: RGB.
    """
    scale, thickness, halo = _strokes(height)
    width, box = text_size(text, height)
    if width > image.shape[1] or box > image.shape[0]:
        return
    lower = cv2.getTextSize(text, _FONT, scale, thickness)[1]
    letters = np.zeros((box, width), np.uint8)
    cv2.putText(letters, text, (halo, box - lower - halo), _FONT, scale, 255, thickness, cv2.LINE_AA)
    # Not a second, thicker text: OpenCV 5 has scalable letters whose width grows with the thickness.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * halo + 1,) * 2)
    around = 0 if luminance(color) > 127 else 255
    left = round(min(max(0.0, center[0] - (width - 1) / 2), image.shape[1] - width))
    top = round(min(max(0.0, center[1] - (box - 1) / 2), image.shape[0] - box))
    part = image[top : top + box, left : left + width]
    shade, ink = cv2.dilate(letters, disc)[..., None] / 255, letters[..., None] / 255  # [h, w, 1], 0..1
    part[:] = np.rint((part * (1 - shade) + around * shade) * (1 - ink) + np.array(color) * ink)


def luminance(color: tuple[int, int, int]) -> float:
    """Brightness 0..255 of an RGB colour, as the eye weighs the channels."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _strokes(height: float) -> tuple[float, int, int]:
    """Scale, thickness and width of the halo for digits `height` pixels high."""
    return height / _UNIT, max(1, round(height / 9)), max(1, round(height / 10))

"""Masks drawn over a frame: colour, outline and id of each object."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vidtrack.labels.masks import Masks
from vidtrack.labels.palette import color as palette_color
from vidtrack.reports.text import printable, put_text, text_size

_FINE = 160  # side of the grid on which the place of a label is found: precision isn't seen there


def draw_masks(
    image: np.ndarray,
    masks: Masks,
    *,
    alpha: float = 0.5,
    outline: bool = True,
    ids: bool = True,
    label_scale: float | None = None,
) -> np.ndarray:
    """A copy of a frame with its objects filled, outlined and numbered.

    Fill and outline stay inside the object, so the edge of the mask can be judged to the pixel; only labels
    may cover pixels outside.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        masks: of the same size; `masks.colors` and `masks.names` are used where present.
        alpha: share 0..1 of the colour in the fill.
        outline: draw a light line along the edge of each object.
        ids: write the id, and the name if there is one, in the largest part of each object.
        label_scale: size of the label, 1 is a digit of 1/22 of the short side (at least 10 pixels).

    Returns:
        uint8 `[H, W, 3]`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.shape[:2] != masks.size:
        raise ValueError(
            f"image must be uint8 {[*masks.size, 3]} like the masks, not {image.dtype} {list(image.shape)}"
        )
    result = np.array(image, order="C")
    short = min(masks.size)
    labels = []
    for object_id in masks.objects:
        region = (masks.ids == object_id).view(np.uint8)
        x, y, width, height = cv2.boundingRect(region)
        box = (slice(y, y + height), slice(x, x + width))
        region = region[box]
        color = masks.colors.get(object_id) or palette_color(object_id)
        _blend(result[box], region, color, alpha)
        if outline:
            result[box][_rim(region, max(1, round(short / 240)))] = _light(color)
        if ids:
            text = printable(f"{object_id} {masks.names.get(object_id, '')}".strip())
            labels.append((text, _center(region, (x, y))))
    digit = max(10.0, short / 22) * (1.0 if label_scale is None else label_scale)
    for text, center in labels:  # last, so that no object covers another one's label
        put_text(result, text, center, digit, (255, 255, 255))
    return result


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, captions: Sequence[str] | None = None
) -> np.ndarray:
    """Pictures in rows on white, each centred in its cell, with a caption below.

    Args:
        images: uint8 `[H, W, 3]` RGB, of any sizes; the largest sides give the size of the cells.
        columns: pictures in a row.
        captions: one for each picture, or None.

    Returns:
        uint8 `[H, W, 3]`.
    """
    if not images or columns < 1 or (captions is not None and len(captions) != len(images)):
        raise ValueError("a contact sheet needs images, at least one column, and a caption for each or none")
    gap = 8
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    digit = max(10.0, min(height, width) / 22)
    texts = [printable(caption) for caption in captions or []]
    line = max((text_size(text, digit)[1] for text in texts), default=0) + (gap if texts else 0)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    shape = (gap + rows * (height + line + gap), gap + columns * (width + gap), 3)
    sheet = np.full(shape, 255, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + line + gap), gap + column * (width + gap)
        y, x = top + (height - image.shape[0]) // 2, left + (width - image.shape[1]) // 2
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
        if texts:
            strip = sheet[top + height : top + height + line, left : left + width]
            fitting = min(1.0, width / max(1, text_size(texts[number], digit)[0]))
            put_text(strip, texts[number], (width / 2, line / 2), digit * fitting * 0.98, (0, 0, 0))
    return sheet


def _blend(pixels: np.ndarray, region: np.ndarray, color: tuple[int, int, int], alpha: float) -> None:
    """Mix `color` into `pixels` `[h, w, 3]` where `region` is set, in place."""
    levels = np.arange(256)[:, None] * (1 - alpha) + np.array(color) * alpha  # [256, 3]
    table = np.rint(levels).clip(0, 255).astype(np.uint8)
    mixed = cv2.LUT(np.ascontiguousarray(pixels), table[None])
    cv2.copyTo(mixed, region, pixels)


def _rim(region: np.ndarray, thickness: int) -> np.ndarray:
    """bool `[h, w]`: the pixels of `region` within `thickness` of its edge; the box's border is an edge."""
    padded = np.pad(region, thickness)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1,) * 2)
    inner = cv2.erode(padded, disc)[thickness:-thickness, thickness:-thickness]
    return np.asarray(region > inner)


def _light(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """A light tint of `color`: the palette is mostly dark, and the tint stands out from the fill too."""
    red, green, blue = (round(255 - (255 - channel) * 0.35) for channel in color)
    return red, green, blue


def _center(region: np.ndarray, offset: tuple[int, int]) -> tuple[float, float]:
    """`(x, y)` in the image of the middle of the largest connected part of `region` `[h, w]`.

    The centroid, which moves smoothly from frame to frame; where a hollow shape leaves it outside of the
    object, the inner point that is farthest from the edge.
    """
    step = max(1, -(-max(region.shape) // _FINE))
    if not (coarse := region[::step, ::step]).any():
        step, coarse = 1, region
    coarse = np.ascontiguousarray(coarse)
    _, parts, stats, centroids = cv2.connectedComponentsWithStats(coarse)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y = (float(v) for v in centroids[largest])
    if parts[round(y), round(x)] != largest:
        part = np.pad((parts == largest).astype(np.uint8), 1)  # the border of the box counts as an edge
        depth = cv2.distanceTransform(part, cv2.DIST_L2, 3)
        y, x = (float(v) - 1 for v in np.unravel_index(int(depth.argmax()), depth.shape))
    return offset[0] + x * step, offset[1] + y * step

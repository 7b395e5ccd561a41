"""Objects cut out of a frame: its colours with an alpha channel, nothing of the background left in them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vidtrack.labels.masks import Masks

_MARGIN = 16  # pixels around the objects that take their colours: lossy codecs mix colours across the edge


def cut_out(
    image: np.ndarray,
    masks: Masks,
    *,
    objects: Sequence[int] | None = None,
    soft: np.ndarray | None = None,
) -> np.ndarray:
    """A frame of which only objects are opaque.

    Pixels that are wholly transparent don't keep the frame's colours, which a viewer could bring back: near
    the objects they repeat the nearest opaque pixel, so that compression leaves no dark rim, and are black
    elsewhere.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        masks: of the same size.
        objects: ids to keep; None for all.
        soft: opacity 0..1, float `[H, W]`, instead of the masks' hard edges; `objects` then only says, where
            given, which objects' pixels stay visible: those of all others become transparent.

    Returns:
        uint8 `[H, W, 4]` RGBA, alpha not multiplied into the colours.

    Raises:
        ValueError: an array is of another shape or type.
    """
    if image.dtype != np.uint8 or image.shape != (*masks.size, 3):
        raise ValueError(
            f"image must be uint8 {[*masks.size, 3]} like the masks, not {image.dtype} {list(image.shape)}"
        )
    alpha = _alpha(masks, objects, soft)
    result = np.zeros((*masks.size, 4), np.uint8)
    x, y, width, height = cv2.boundingRect(alpha)
    if width:
        rows = slice(max(0, y - _MARGIN), y + height + _MARGIN)
        columns = slice(max(0, x - _MARGIN), x + width + _MARGIN)
        result[rows, columns] = _extended(image[rows, columns], alpha[rows, columns])
    return result


def _extended(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGBA `[h, w, 4]` in which clear pixels near opaque ones have the colour of the nearest of these."""
    clear = (alpha == 0).view(np.uint8)
    result = cv2.merge([*cv2.split(cv2.copyTo(image, 1 - clear)), alpha])
    distance, label = cv2.distanceTransformWithLabels(clear, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    near = (distance > 0) & (distance <= _MARGIN)
    # Opaque pixels are labelled 1, 2, ... row by row.
    result[..., :3][near] = image[clear == 0][label[near] - 1]
    return result


def _alpha(masks: Masks, objects: Sequence[int] | None, soft: np.ndarray | None) -> np.ndarray:
    """uint8 `[H, W]`."""
    if soft is None:
        kept = masks.ids > 0 if objects is None else np.isin(masks.ids, list(objects))
        return np.where(kept, np.uint8(255), np.uint8(0))
    if soft.shape != masks.size or soft.dtype.kind != "f":
        raise ValueError(f"soft must be float {list(masks.size)}, not {soft.dtype} {list(soft.shape)}")
    alpha = np.rint(np.nan_to_num(soft).clip(0, 1) * 255).astype(np.uint8)
    if objects is not None:
        alpha[(masks.ids > 0) & ~np.isin(masks.ids, list(objects))] = 0
    return alpha

"""Boxes drawn over a frame: the outline and the number of each object."""

from __future__ import annotations

import numpy as np

from vidtrack.labels.boxes import Boxes
from vidtrack.reports.marks import check_image, draw_path, mark_color
from vidtrack.reports.text import put_text, text_size


def draw_boxes(
    image: np.ndarray, boxes: Boxes, *, ids: bool = True, label_scale: float | None = None
) -> np.ndarray:
    """A copy of a frame with the outlines of its boxes, in the palette's colours; lost ones are not drawn.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        boxes: of the frame, in its pixels.
        ids: write the number above the upper left corner of each box, moved inside at the border.
        label_scale: size of the number, 1 is a digit of 1/22 of the short side (at least 10 pixels).

    Returns:
        uint8 `[H, W, 3]`.
    """
    check_image(image)
    result = np.array(image, order="C")
    digit = max(10.0, min(image.shape[:2]) / 22) * (1.0 if label_scale is None else label_scale)
    height, width = image.shape[:2]
    # Beyond the frame by its own size nothing can be seen, and larger numbers overflow OpenCV's integers.
    edges = boxes.centers.clip([-width, -height] * 2, [2 * width, 2 * height] * 2)
    shown = [(boxes.ids[i], edges[i]) for i in np.flatnonzero(boxes.labelled)]
    for object_id, (left, top, right, bottom) in shown:
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        draw_path(result, corners, mark_color(object_id), closed=True)
    for object_id, (left, top, right, bottom) in shown if ids else ():  # last: no line crosses a number
        if right >= 0 and bottom >= 0 and left < width and top < height:
            wide, high = text_size(str(object_id), digit)
            put_text(result, str(object_id), (left + wide / 2, top - high / 2), digit, (255, 255, 255))
    return result

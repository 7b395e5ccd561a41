"""Keypoints drawn over a frame: a disc for a visible point, a ring for an occluded one, and the skeleton."""

from __future__ import annotations

import numpy as np

from vidtrack.labels.keypoints import Keypoints
from vidtrack.reports.marks import check_image, draw_disc, draw_path, draw_ring, mark_color


def draw_keypoints(image: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """A copy of a frame with its keypoints.

    Each instance has a colour of the palette; where there is only one, each keypoint has. Lost points, and
    lines of the skeleton to them, are not drawn. Marks are placed to 1/16 pixel; their radius is 1/120 of
    the short side, at least 2 pixels.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        keypoints: of the frame, in its pixels.

    Returns:
        uint8 `[H, W, 3]`.
    """
    check_image(image)
    result = np.array(image, order="C")
    radius = max(2.0, min(image.shape[:2]) / 120)
    labelled, alone = keypoints.labelled, len(keypoints.instances) == 1
    for i in range(len(keypoints.instances)):
        for start, end in keypoints.skeleton:
            if labelled[i, start] and labelled[i, end]:
                color = mark_color(start + 1 if alone else i + 1)
                draw_path(result, keypoints.xy[i, [start, end]], color)
    points = np.argwhere(labelled)
    seen = keypoints.visible[labelled]
    for i, p in [*points[~seen], *points[seen]]:  # visible ones last, so that no hole covers them
        place, color = keypoints.xy[i, p], mark_color(int(p if alone else i) + 1)
        if keypoints.visible[i, p]:
            draw_disc(result, place, radius, color)
        else:
            draw_ring(result, place, 1.25 * radius, color, image)  # larger: the hole must be seen
    return result

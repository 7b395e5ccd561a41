"""Region similarity J and contour accuracy F of masks, and their statistics over a sequence.

Plain functions on arrays, equal to the official DAVIS tools (`davis-2016`, `davis2017-evaluation`):

- Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
- Martin et al., "Learning to Detect Natural Image Boundaries Using Local Brightness, Color, and Texture
  Cues", PAMI 2004: the boundary measure that F builds on.
- Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.bool_]
Scores: TypeAlias = np.float64 | NDArray[np.float64]

BINS = 4  # decay compares the first with the last quarter of a sequence
RECALL_THRESHOLD = 0.5


def region_similarity(annotation: Mask, result: Mask, void: Mask | None = None) -> Scores:
    """J: intersection over union of a result with its annotation.

    Args:
        annotation: bool `[H, W]` or `[T, H, W]`, the truth of one object.
        result: bool, same shape.
        void: bool, same shape; pixels that count neither for nor against the result.

    Returns:
        float64 in 0..1: a scalar for one frame, `[T]` for several. 1 where both masks are empty.

    Raises:
        ValueError: The shapes differ, or an array is not bool or has not 2 or 3 axes.
    """
    _check(annotation, result, void)
    if annotation.ndim == 3:
        return np.array(
            [region_similarity(*frame) for frame in _frames(annotation, result, void)], np.float64
        )
    if void is not None:
        annotation, result = annotation & ~void, result & ~void
    union = np.count_nonzero(annotation | result)
    return np.float64(np.count_nonzero(annotation & result) / union if union else 1.0)


def contour_accuracy(
    annotation: Mask, result: Mask, void: Mask | None = None, bound_th: float = 0.008
) -> Scores:
    """F: harmonic mean of the precision and recall of a result's boundary.

    A boundary pixel is matched if a pixel of the other boundary lies within the tolerance (a disk).

    Args:
        annotation: bool `[H, W]` or `[T, H, W]`, the truth of one object.
        result: bool, same shape.
        void: bool, same shape; void pixels are taken out of both masks before their boundaries are found.
        bound_th: tolerance as a fraction of the frame's diagonal, rounded up to whole pixels; from 1 on, a
            number of pixels.

    Returns:
        float64 in 0..1: a scalar for one frame, `[T]` for several. Neither mask has a boundary (both are
        empty or fill the frame): 1. Only one of them has: 0, because its precision or recall is 0.

    Raises:
        ValueError: The shapes differ, or an array is not bool or has not 2 or 3 axes.
    """
    _check(annotation, result, void)
    if annotation.ndim == 3:
        frames = _frames(annotation, result, void)
        return np.array([contour_accuracy(*frame, bound_th=bound_th) for frame in frames], np.float64)
    if void is not None:
        annotation, result = annotation & ~void, result & ~void
    radius = int(np.ceil(bound_th if bound_th >= 1 else bound_th * np.linalg.norm(annotation.shape)))

    # Only the surroundings of the two masks can hold boundary pixels; the rest of the frame is not looked at.
    rows, columns = _surroundings(annotation, result)
    truth = _boundary(annotation[rows, columns])
    found = _boundary(result[rows, columns])
    n_truth, n_found = cv2.countNonZero(truth), cv2.countNonZero(found)
    if not n_truth and not n_found:
        return np.float64(1.0)
    if not n_truth or not n_found:
        return np.float64(0.0)
    disk = _disk(radius)
    precision = cv2.countNonZero(cv2.bitwise_and(found, cv2.dilate(truth, disk))) / n_found
    recall = cv2.countNonZero(cv2.bitwise_and(truth, cv2.dilate(found, disk))) / n_truth
    return np.float64(2 * precision * recall / (precision + recall) if precision + recall else 0.0)


@dataclass(frozen=True)
class Statistics:
    """Statistics of one measure over the scored frames of one object.

    Attributes:
        mean: mean over frames, 0..1.
        recall: fraction of frames above 0.5 (strictly), 0..1.
        decay: mean of the first quarter less mean of the last, -1..1; positive: the result gets worse.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: Sequence[float] | NDArray[np.float64]) -> Statistics:
    """Mean, recall and decay of the scores of one object, `[T]` in order of time, T >= 1.

    Quarters are the official tool's: their limits are the rounded points that divide frames 1..T into four,
    and neighbouring quarters share the frame at their common limit. (The official code keeps the limits in 8
    bits, which goes wrong beyond 255 frames; here they are plain integers.)

    Raises:
        ValueError: There are no values.
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ValueError(f"statistics need the scores of at least one frame, [T]; got shape {scores.shape}")
    # The tiny offset makes .5 round up as in the Matlab original, where numpy would round it to even.
    limits = np.round(np.linspace(1, len(scores), BINS + 1) + 1e-10).astype(int) - 1
    first, last = scores[: limits[1] + 1], scores[limits[-2] : limits[-1] + 1]
    return Statistics(
        mean=float(scores.mean()),
        recall=float(np.mean(scores > RECALL_THRESHOLD)),
        decay=float(first.mean() - last.mean()),
    )


def _check(annotation: Mask, result: Mask, void: Mask | None) -> None:
    arrays = [array for array in (annotation, result, void) if array is not None]
    if annotation.ndim not in (2, 3) or any(a.shape != annotation.shape or a.dtype != bool for a in arrays):
        got = ", ".join(f"{a.dtype} {list(a.shape)}" for a in arrays)
        raise ValueError(f"masks must be bool [H, W] or [T, H, W], all of one shape; got {got}")


def _frames(annotation: Mask, result: Mask, void: Mask | None) -> list[tuple[Mask, Mask, Mask | None]]:
    voids = [None] * len(annotation) if void is None else list(void)
    return list(zip(annotation, result, voids, strict=True))


def _surroundings(a: Mask, b: Mask) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of both masks, grown by one pixel where the frame goes on."""
    x, y, width, height = cv2.boundingRect((a | b).view(np.uint8))
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def _boundary(mask: Mask) -> NDArray[np.uint8]:
    """1 at pixels that differ from their right, lower or lower right neighbour, uint8 `[H, W]`.

    Such a pixel is the upper left of a 2x2 block that is not constant. In the last row and column the block
    is filled up by repeating the border, as in Martin's `seg2bmap`: the frame's border is no boundary.
    """
    block = np.ones((2, 2), np.uint8)
    values = np.ascontiguousarray(mask).view(np.uint8)
    # The gradient, the largest less the smallest value of each block, is 1 exactly where it isn't constant.
    gradient = cv2.morphologyEx(
        values, cv2.MORPH_GRADIENT, block, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(gradient, np.uint8)


@lru_cache(maxsize=32)
def _disk(radius: int) -> NDArray[np.uint8]:
    """Pixels at most `radius` from the centre, uint8 `[2 radius + 1, 2 radius + 1]`."""
    square = np.arange(-radius, radius + 1) ** 2
    return (square[:, None] + square <= radius**2).astype(np.uint8)

"""Measures of masks (J, F and their statistics), keypoints (PCK) and boxes (IoU, success), on plain arrays.

Those of masks are equal to the official DAVIS tools (`davis-2016`, `davis2017-evaluation`):

- Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
- Martin et al., "Learning to Detect Natural Image Boundaries Using Local Brightness, Color, and Texture
  Cues", PAMI 2004: the boundary measure that F builds on.
- Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", 2017.

Which points and boxes are scored is decided in `pose.py` and `boxes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask: TypeAlias = NDArray[np.bool_]
Scores: TypeAlias = np.float64 | NDArray[np.float64]

BINS = 4  # decay compares the first with the last quarter of a sequence
RECALL_THRESHOLD = 0.5
HEAD_SIZE = 0.6  # of the diagonal of the head's box: about the length of the head's bone


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


def correct_points(
    truth_xy: NDArray[np.floating], predicted_xy: NDArray[np.floating], threshold_px: ArrayLike
) -> NDArray[np.bool_]:
    """Which points lie within the threshold of their true place.

    Args:
        truth_xy: `(x, y)` in pixels, float `[..., 2]`; nan where a point is not annotated.
        predicted_xy: likewise, same shape; nan where a point is lost.
        threshold_px: largest distance in pixels that is correct (the limit itself is), 0 or more: one number
            or an array that broadcasts to `[...]`, such as `[T, I, 1]` for points `[T, I, P, 2]` of T frames,
            I instances and P keypoints. nan: nothing is correct.

    Returns:
        bool `[...]`; False where either point is nan.

    Raises:
        ValueError: Shapes that don't fit, or a negative threshold.
    """
    truth, predicted = np.asarray(truth_xy, np.float64), np.asarray(predicted_xy, np.float64)
    threshold = np.asarray(threshold_px, np.float64)
    if truth.shape != predicted.shape or truth.ndim < 1 or truth.shape[-1] != 2:
        raise ValueError(
            f"points must be [..., 2], both of one shape; got {list(truth.shape)}, {list(predicted.shape)}"
        )
    if (threshold < 0).any():
        raise ValueError(f"a threshold must be 0 px or more; got {np.nanmin(threshold)}")
    # A comparison with nan is False: what is lost or not annotated is not correct.
    distance = np.hypot(*np.moveaxis(predicted - truth, -1, 0))
    return np.asarray(distance <= np.broadcast_to(threshold, truth.shape[:-1]))


def pck(
    truth_xy: NDArray[np.floating],
    predicted_xy: NDArray[np.floating],
    scored: NDArray[np.bool_],
    threshold_px: ArrayLike,
) -> float:
    """PCK, the percentage of correct keypoints, as a fraction 0..1: every scored point weighs the same.

    Yang & Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", PAMI 2013. The threshold
    makes the variant: with `alpha * sqrt(area of the silhouette)` it is PCK@alpha of BADJA, with
    `alpha * head_size(box)` PCKh@alpha of MPII and PoseTrack.

    Args:
        truth_xy, predicted_xy, threshold_px: see `correct_points`. A lost prediction (nan) is wrong.
        scored: bool `[...]`, the points that count.

    Raises:
        ValueError: Shapes that don't fit, no point is scored, or a scored one has no truth or threshold.
    """
    correct = correct_points(truth_xy, predicted_xy, threshold_px)
    if scored.dtype != bool or scored.shape != correct.shape:
        raise ValueError(
            f"scored must be bool {list(correct.shape)}; got {scored.dtype} {list(scored.shape)}"
        )
    if not scored.any():
        raise ValueError("PCK needs at least one scored point")
    known = np.isfinite(truth_xy).all(-1) & ~np.isnan(np.asarray(threshold_px, np.float64))
    if not known[scored].all():
        raise ValueError("a scored point has no true place or no threshold")
    return float(correct[scored].mean())


def head_size(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Size of heads for PCKh: 0.6 times the diagonal of the head's box, in pixels.

    Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014.

    Args:
        boxes: x1, y1, x2, y2 in pixels, float `[..., 4]`.

    Returns:
        float64 `[...]`; nan where a box is nan.
    """
    boxes = np.asarray(boxes, np.float64)
    return HEAD_SIZE * np.hypot(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of each box of `a` with the box of `b` in the same row.

    Args:
        a, b: x1, y1, x2, y2 in pixels, float `[N, 4]`; edges are continuous: a box of one pixel i goes from
            i to i + 1. A row of nan is a lost box.

    Returns:
        float64 `[N]` in 0..1: 0 where a box is lost, where they only touch, and where both have no area.

    Raises:
        ValueError: Other shapes, or a box whose x2 < x1 or y2 < y1.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 4:
        raise ValueError(f"boxes must be [N, 4], both of one shape; got {list(a.shape)}, {list(b.shape)}")
    if any((boxes[:, 2:] < boxes[:, :2]).any() for boxes in (a, b)):
        raise ValueError("a box has x2 < x1 or y2 < y1")
    shared = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    intersection = shared.clip(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - intersection
    # The union with a lost box is nan, which is not above 0 either.
    return np.divide(intersection, union, out=np.zeros(len(a)), where=union > 0)


def center_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance between the centres of each box of `a` and the box of `b` in the same row.

    Args:
        a, b: see `box_iou`.

    Returns:
        float64 `[N]` pixels; inf where a box is lost.

    Raises:
        ValueError: Other shapes.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 4:
        raise ValueError(f"boxes must be [N, 4], both of one shape; got {list(a.shape)}, {list(b.shape)}")
    step = (b[:, :2] + b[:, 2:] - a[:, :2] - a[:, 2:]) / 2
    return np.nan_to_num(np.hypot(step[:, 0], step[:, 1]), nan=np.inf)


def success_auc(iou: NDArray[np.floating]) -> float:
    """Area under the success curve: the share of boxes above an IoU, averaged over 0, 0.05, ... 1; 0..1.

    Wu, Lim & Yang, "Online Object Tracking: A Benchmark", CVPR 2013. "Above" is strict there, so that a
    perfect result gets 20/21 and a lost box nothing.

    Args:
        iou: `[N]` in 0..1, N >= 1.

    Raises:
        ValueError: There are no values.
    """
    values = np.asarray(iou, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"success needs the IoU of at least one box, [N]; got shape {list(values.shape)}")
    return float((values[:, None] > np.arange(21) / 20).mean())


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

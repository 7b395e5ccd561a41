"""Measures of classes and parts: mean IoU over a confusion matrix, average precision of instances.

- Zhou et al., "Adaptive Temporal Encoding Network for Video Instance-level Human Parsing", ACM MM 2018
  (arXiv 1808.00661): VIP, and the code that its scores come from (`HCPLab-SYSU/ATEN`, `evaluate/`).
- Everingham et al., "The PASCAL Visual Object Classes Challenge 2012": average precision as the area under
  the precision-recall curve, made monotonous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.uint8]

IOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of VIP


def confusion(truth: Ids, predicted: Ids, classes: int, void: int | None = 255) -> NDArray[np.int64]:
    """How many pixels of each true class have each predicted class.

    Args:
        truth: classes, uint8 of any shape. Pixels of `void` and of `classes` or more don't count.
        predicted: uint8 of the same shape, below `classes` wherever the truth counts.
        classes: K, the number of classes with class 0.
        void: value of true pixels without a class.

    Returns:
        int64 `[K, K]`: rows are true, columns predicted classes. Matrices of several frames can be added.

    Raises:
        ValueError: Shapes or types that don't fit, or a predicted class that is not below K.
    """
    if truth.shape != predicted.shape or truth.dtype != np.uint8 or predicted.dtype != np.uint8:
        raise ValueError(
            f"classes must be uint8, both of one shape; got {truth.dtype} {list(truth.shape)}, "
            f"{predicted.dtype} {list(predicted.shape)}"
        )
    counts = truth < classes
    if void is not None:
        counts &= truth != void
    true, found = truth[counts].astype(np.int64), predicted[counts].astype(np.int64)
    if found.size and found.max() >= classes:
        raise ValueError(f"a pixel has class {found.max()}, but there are {classes}")
    return np.bincount(true * classes + found, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """Intersection over union of each class, from a confusion matrix `[K, K]`.

    Returns:
        float64 `[K]` in 0..1; nan for classes that neither truth nor result have.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is [K, K]; got {list(matrix.shape)}")
    right = np.diag(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.divide(right, union, out=np.full(len(matrix), np.nan), where=union > 0)


def mean_iou(matrix: NDArray[np.integer], *, among: str = "true") -> float:
    """Mean IoU over classes, 0..1.

    Args:
        matrix: confusion matrix `[K, K]`, see `confusion`.
        among: "true": the mean is over classes that the truth has, as in CamVid; "any": over those that
            truth or result have, as in VIP. They differ by classes that only the result has, whose IoU is 0.

    Raises:
        ValueError: No class is there, or an unknown `among`.
    """
    if among not in ("true", "any"):
        raise ValueError(f'among must be "true" or "any", not {among!r}')
    values = class_iou(matrix)
    counts = matrix.sum(1) > 0 if among == "true" else ~np.isnan(values)
    if not counts.any():
        raise ValueError("mean IoU needs at least one pixel of a class")
    return float(values[counts].mean())


def best_overlaps(
    truth: Ids,
    true_classes: Mapping[int, int],
    predicted: Ids,
    predicted_classes: Mapping[int, int],
) -> tuple[dict[int, int], dict[int, list[float]]]:
    """What one frame contributes to the average precision of instances.

    Args:
        truth, predicted: ids of instances, uint8 `[H, W]`, 0 background. Ids that their classes lack don't
            count.
        true_classes, predicted_classes: class of each id; an id may be absent from the frame.

    Returns:
        By class: the number of true instances; and for each predicted instance, by id, its largest IoU with
        a true instance of its class, 0 if there is none. Instances without a pixel are not there.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"ids must have one shape; got {list(truth.shape)}, {list(predicted.shape)}")
    pairs = truth.astype(np.intp).ravel() * 256 + predicted.ravel()
    shared = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    true_area, area = shared.sum(1), shared.sum(0)
    true = {id_: class_ for id_, class_ in sorted(true_classes.items()) if id_ and true_area[id_]}
    counts: dict[int, int] = {}
    for class_ in true.values():
        counts[class_] = counts.get(class_, 0) + 1
    overlaps: dict[int, list[float]] = {}
    for id_, class_ in sorted(predicted_classes.items()):
        if id_ and area[id_]:
            same = [other for other, true_class in true.items() if true_class == class_]
            ious = shared[same, id_] / (true_area[same] + area[id_] - shared[same, id_])
            overlaps.setdefault(class_, []).append(float(ious.max(initial=0.0)))
    return counts, overlaps


def average_precision(
    overlaps: Sequence[float],
    count: int,
    thresholds: ArrayLike = IOU_THRESHOLDS,
    scores: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Average precision of the instances of one class over any number of frames.

    As VIP's tool, an instance is right if its largest IoU with a true one is above the threshold (strictly),
    even if another instance has the same best match. Two points are settled here that it leaves open:
    instances of equal score enter the curve together, in no order, and recall stops at 1.

    Args:
        overlaps: the largest IoU of each predicted instance, N values.
        count: number of true instances, 1 or more.
        thresholds: `[K]`, of IoU.
        scores: confidence of each predicted instance; None: they are equal, as those of label propagation,
            which has no confidence in instances. The average precision is then precision times recall.

    Returns:
        float64 `[K]` in 0..1; 0 where nothing is predicted.

    Raises:
        ValueError: No true instance, or scores that don't fit.
    """
    iou = np.asarray(overlaps, np.float64)
    confidence = np.zeros(len(iou)) if scores is None else np.asarray(scores, np.float64)
    if count < 1 or iou.ndim != 1 or confidence.shape != iou.shape:
        raise ValueError(
            f"{count} true instances, overlaps {list(iou.shape)}, {list(confidence.shape)} scores"
        )
    limits = np.atleast_1d(np.asarray(thresholds, np.float64))
    if not len(iou):
        return np.zeros(len(limits))
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(iou) - 1)  # last of each equal score
    right = np.cumsum(iou[order][None] > limits[:, None], axis=1)[:, ends]  # [K, points of the curve]
    precision = right / (ends + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = np.minimum(right / count, 1)
    return (np.diff(recall, axis=1, prepend=0) * precision).sum(1)


def instance_ap(
    counts: Mapping[int, int],
    overlaps: Mapping[int, Sequence[float]],
    thresholds: ArrayLike = IOU_THRESHOLDS,
    scores: Mapping[int, Sequence[float]] | None = None,
) -> NDArray[np.float64]:
    """Average precision of instances, the mean over the classes that the truth has: AP^r of VIP.

    Args:
        counts: number of true instances by class.
        overlaps: the largest IoU of each predicted instance by class, see `best_overlaps`. Classes that the
            truth lacks don't count.
        thresholds: `[K]`, of IoU.
        scores: confidence of each predicted instance by class, see `average_precision`.

    Returns:
        float64 `[K]` in 0..1. Their mean is VIP's main figure.

    Raises:
        ValueError: There is no true instance.
    """
    classes = sorted(class_ for class_, count in counts.items() if count)
    if not classes:
        raise ValueError("average precision needs at least one true instance")
    each = [
        average_precision(
            overlaps.get(class_, ()), counts[class_], thresholds, None if scores is None else scores[class_]
        )
        for class_ in classes
    ]
    return np.asarray(np.mean(each, axis=0))

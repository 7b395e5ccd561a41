"""Confusion, mean IoU and average precision against slow loops and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidtrack.benchmark.part_metrics import (
    IOU_THRESHOLDS,
    average_precision,
    best_overlaps,
    class_iou,
    confusion,
    instance_ap,
    mean_iou,
)


def slow_confusion(truth, predicted, classes, void):
    matrix = np.zeros((classes, classes), int)
    for true, found in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true < classes and true != void:
            matrix[true, found] += 1
    return matrix


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**16), st.integers(1, 6), st.sampled_from([None, 0, 3, 255]))
def test_confusion_is_that_of_a_slow_loop(seed, classes, void):
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(7), 255], (9, 11)).astype(np.uint8)
    predicted = rng.integers(0, classes, (9, 11)).astype(np.uint8)
    got = confusion(truth, predicted, classes, void)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, slow_confusion(truth, predicted, classes, void))


def test_iou_by_hand():
    truth = np.array([[0, 0, 0, 1, 1, 1, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1, 1, 3, 3, 2]], np.uint8)
    matrix = confusion(truth, predicted, 5)
    np.testing.assert_array_equal(
        matrix, [[2, 1, 0, 0, 0], [0, 2, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    )
    np.testing.assert_allclose(class_iou(matrix), [2 / 3, 2 / 4, 0, 0, np.nan])
    assert mean_iou(matrix) == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)  # of the truth: 0, 1, 2
    assert mean_iou(matrix, among="any") == pytest.approx((2 / 3 + 2 / 4 + 0 + 0) / 4)  # and 3
    assert mean_iou(matrix, among="any") == pytest.approx(np.nanmean(class_iou(matrix)))


def test_iou_of_frames_adds_up():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 5, 6, 7)).astype(np.uint8)
    total = sum(confusion(a, b, 4) for a, b in zip(truth, predicted, strict=True))
    np.testing.assert_array_equal(total, confusion(truth, predicted, 4))


def test_wrong_arrays_are_refused():
    a = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"uint8 \[2, 3\], uint8 \[3, 2\]"):
        confusion(a, a.T, 3)
    with pytest.raises(ValueError, match="int64"):
        confusion(a.astype(int), a, 3)
    with pytest.raises(ValueError, match="has class 3, but there are 3"):
        confusion(a, a + 3, 3)
    confusion(a + 255, a + 3, 3)  # not where the truth is void
    with pytest.raises(ValueError, match="at least one pixel"):
        mean_iou(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="among"):
        mean_iou(np.eye(2, dtype=int), among="all")
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        class_iou(np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="one shape"):
        best_overlaps(a, {}, a.T, {})


def slow_overlaps(truth, true_classes, predicted, predicted_classes):
    """Mask by mask."""
    counts, overlaps = {}, {}
    for id_, class_ in true_classes.items():
        if (truth == id_).any():
            counts[class_] = counts.get(class_, 0) + 1
    for id_ in sorted(predicted_classes):
        mask = predicted == id_
        if mask.any():
            ious = [0.0]
            for other, class_ in true_classes.items():
                if class_ == predicted_classes[id_] and (truth == other).any():
                    ious.append((mask & (truth == other)).sum() / (mask | (truth == other)).sum())
            overlaps.setdefault(predicted_classes[id_], []).append(max(ious))
    return counts, overlaps


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**16))
def test_best_overlaps_are_those_of_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.choice([0, 1, 2, 3, 4, 200, 254], (2, 6, 8)).astype(np.uint8)
    classes = [{id_: int(rng.integers(1, 4)) for id_ in rng.choice([1, 2, 3, 4, 9, 254], 4)} for _ in "ab"]
    got = best_overlaps(truth, classes[0], predicted, classes[1])
    assert got == slow_overlaps(truth, classes[0], predicted, classes[1])


def vip_ap(overlaps, scores, count, threshold):
    """The area under the curve as the tool of VIP (and PASCAL VOC since 2010) adds it up, point by point."""
    ranked = [iou for _, iou in sorted(zip(scores, overlaps, strict=True), reverse=True)]
    right, recall, precision = 0, [0.0], [0.0]
    for number, iou in enumerate(ranked, start=1):
        right += iou > threshold
        recall.append(min(right / count, 1))
        precision.append(right / number)
    area = 0.0
    for point in range(1, len(recall)):
        area += (recall[point] - recall[point - 1]) * max(precision[point:])
    return area


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([0, 0.1, 0.15, 0.3, 0.5, 0.55, 0.9, 1]), min_size=1, max_size=12),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_average_precision_is_that_of_the_tool(overlaps, count, random):
    scores = random.sample(range(100), len(overlaps))  # all differ
    got = average_precision(overlaps, count, scores=scores)
    expected = [vip_ap(overlaps, scores, count, threshold) for threshold in IOU_THRESHOLDS]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_average_precision_by_hand():
    # Three true ones. In order of score: right, wrong, right: recall 1/3, 1/3, 2/3; precision 1, 1/2, 2/3.
    assert average_precision([0.9, 0.2, 0.6], 3, [0.5], [3, 2, 1]) == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    # The same in another order: wrong, right, right: precision 0, 1/2, 2/3, made monotonous 2/3.
    assert average_precision([0.9, 0.2, 0.6], 3, [0.5], [2, 3, 1]) == pytest.approx(2 / 3 * 2 / 3)
    # Without scores: precision 2/3 times recall 2/3.
    assert average_precision([0.9, 0.2, 0.6], 3, [0.5]) == pytest.approx(4 / 9)
    assert average_precision([0.5], 1, [0.5]) == 0  # not above
    assert average_precision([0.9, 0.9], 1, [0.5]) == 1  # both have the same best match
    np.testing.assert_array_equal(average_precision([], 2), np.zeros(9))
    with pytest.raises(ValueError, match="0 true instances"):
        average_precision([0.5], 0)
    with pytest.raises(ValueError, match=r"\[1\], \[2\] scores"):
        average_precision([0.5], 1, scores=[1, 2])


def test_equal_scores_have_no_order():
    overlaps, scores = [0.9, 0.2, 0.6, 0.0], [2, 2, 1, 1]
    expected = average_precision(overlaps, 3, scores=scores)
    for order in ([1, 0, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        got = average_precision([overlaps[i] for i in order], 3, scores=[scores[i] for i in order])
        np.testing.assert_array_equal(got, expected)


def test_instance_ap_is_the_mean_over_true_classes():
    counts, overlaps = {1: 2, 2: 1, 4: 0}, {1: [0.95, 0.25], 3: [0.9]}
    got = instance_ap(counts, overlaps)
    # Class 1: both above 0.1 and 0.2, then one of two predicted and true ones; 2: none; 3 isn't true.
    np.testing.assert_allclose(got, (np.array([1, 1] + [1 / 4] * 7) + 0) / 2)
    scored = instance_ap(counts, overlaps, [0.5], {1: [2, 1], 2: []})
    assert scored == pytest.approx(1 / 2 / 2)
    with pytest.raises(ValueError, match="at least one true instance"):
        instance_ap({4: 0}, overlaps)

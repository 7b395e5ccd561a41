"""PCK, head size, IoU of boxes and success: hand-computed cases and slow or foreign references."""

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidtrack.benchmark.metrics import box_iou, correct_points, head_size, pck, success_auc

NAN = np.nan


@pytest.mark.parametrize(
    ("predicted", "threshold", "expected"),
    [
        ((13, 24), 5, True),  # a distance of exactly 5: the limit is correct
        ((13, 24), 4.999, False),
        ((10, 20), 0, True),
        ((NAN, NAN), 1e9, False),  # lost
        ((10, NAN), 1e9, False),
        ((10, 20), NAN, False),
        ((7, 16), np.inf, True),
    ],
)
def test_correct_within_the_threshold(predicted, threshold, expected):
    truth = np.array([[10, 20]], np.float32)
    assert correct_points(truth, np.array([predicted], np.float32), threshold).tolist() == [expected]


def test_pck_counts_scored_points_and_lost_ones_are_wrong():
    truth = np.zeros((4, 2))
    predicted = np.array([[0, 1], [0, 3], [NAN, NAN], [0, 0]])
    assert pck(truth, predicted, np.array([True, True, True, True]), 2) == 2 / 4
    assert pck(truth, predicted, np.array([True, True, True, False]), 2) == 1 / 3
    assert pck(truth, predicted, np.array([False, False, False, True]), 2) == 1


def test_points_weigh_the_same_however_many_a_frame_has():
    truth, predicted = np.zeros((2, 1, 3, 2)), np.zeros((2, 1, 3, 2))
    predicted[1] += 100  # the second frame is wrong
    scored = np.array([[[True, True, True]], [[True, False, False]]])
    assert pck(truth, predicted, scored, 1) == 3 / 4  # the mean over frames would be 1/2


def test_truth_that_is_not_scored_may_be_unknown():
    truth = np.array([[0, 0], [NAN, NAN]])
    scored = np.array([True, False])
    assert pck(truth, np.zeros((2, 2)), scored, np.array([1, NAN])) == 1


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_equal_to_a_loop_over_frames_instances_and_points(data):
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    places = st.one_of(st.integers(-5, 5), st.just(NAN))
    truth = data.draw(hnp.arrays(np.float64, (*shape, 2), elements=st.integers(-5, 5)))
    predicted = data.draw(hnp.arrays(np.float64, (*shape, 2), elements=places))
    scored = data.draw(hnp.arrays(bool, shape))
    threshold = data.draw(hnp.arrays(np.float64, (*shape[:2], 1), elements=st.integers(0, 6)))
    right, total = 0, 0
    for t, i, p in np.argwhere(scored):
        dx, dy = predicted[t, i, p] - truth[t, i, p]
        right += (dx * dx + dy * dy) <= threshold[t, i, 0] ** 2
        total += 1
    if total:
        assert pck(truth, predicted, scored, threshold) == right / total
    else:
        with pytest.raises(ValueError, match="at least one"):
            pck(truth, predicted, scored, threshold)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2)), np.zeros((3, 2)), np.ones(2, bool), 1), r"\[2, 2\], \[3, 2\]"),
        ((np.zeros((2, 3)), np.zeros((2, 3)), np.ones(2, bool), 1), r"\[\.\.\., 2\]"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.ones(3, bool), 1), r"bool \[2\]; got bool \[3\]"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2), 1), "got float64"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2, bool), -1), "0 px or more"),
        ((np.full((2, 2), NAN), np.zeros((2, 2)), np.ones(2, bool), 1), "no true place"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2, bool), NAN), "no threshold"),
    ],
)
def test_wrong_arrays(arguments, message):
    with pytest.raises(ValueError, match=message):
        pck(*arguments)


def test_head_size():
    boxes = np.array([[[10, 10, 40, 50], [0, 0, 5, 12]], [[NAN] * 4, [1, 2, 1, 2]]])
    np.testing.assert_allclose(head_size(boxes), [[30, 7.8], [NAN, 0]])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 4, 2), (0, 0, 4, 2), 1),
        ((0, 0, 4, 2), (2, 1, 6, 3), 2 / 14),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0),  # pixel 0 and pixel 1 touch, no more
        ((0, 0, 1, 1), (5, 5, 6, 6), 0),
        ((0, 0, 4, 2), (NAN,) * 4, 0),
        ((NAN,) * 4, (NAN,) * 4, 0),
        ((3, 3, 3, 3), (3, 3, 3, 3), 0),
        ((0, 0, 4, 2), (1, 1, 1, 1), 0),
    ],
)
def test_iou_by_hand(a, b, expected):
    a, b = np.array([a], np.float32), np.array([b], np.float32)
    assert box_iou(a, b).tolist() == pytest.approx([expected])
    assert box_iou(b, a).tolist() == pytest.approx([expected])


def test_iou_is_that_of_torchvision():
    corners = np.random.default_rng(0).integers(0, 12, (2, 200, 2, 2))
    corners.sort(axis=2)
    a, b = corners.reshape(2, 200, 4) + np.array([0, 0, 1, 1.0])  # none is empty
    expected = torchvision.ops.box_iou(torch.tensor(a), torch.tensor(b)).diagonal().numpy()
    np.testing.assert_allclose(box_iou(a, b), expected, atol=1e-12)
    assert 0.2 < (expected > 0).mean() < 0.8


def test_iou_is_the_share_of_common_pixels():
    rng = np.random.default_rng(1)
    for _ in range(50):
        corners = np.sort(rng.integers(0, 9, (2, 2, 2)), axis=1)
        pixels = np.zeros((2, 9, 9), bool)
        for mask, ((x1, y1), (x2, y2)) in zip(pixels, corners, strict=True):
            mask[y1:y2, x1:x2] = True
        union = pixels.any(0).sum()
        expected = pixels.all(0).sum() / union if union else 0
        a, b = corners.reshape(2, 1, 4)
        np.testing.assert_allclose(box_iou(a, b), [expected])


@pytest.mark.parametrize("wrong", [(3, 0, 1, 2), (0, 3, 2, 1)])
def test_boxes_inside_out(wrong):
    right = np.array([[0, 0, 1, 1.0]])
    for pair in ((right, np.array([wrong])), (np.array([wrong]), right)):
        with pytest.raises(ValueError, match="x2 < x1 or y2 < y1"):
            box_iou(*pair)


def test_boxes_of_other_shapes():
    with pytest.raises(ValueError, match=r"\[2, 4\], \[1, 4\]"):
        box_iou(np.zeros((2, 4)), np.zeros((1, 4)))
    assert box_iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


@pytest.mark.parametrize(
    ("iou", "expected"),
    [
        ([1.0], 20 / 21),  # above 0 ... 0.95, not above 1
        ([0.0], 0),  # not above 0
        ([0.5], 10 / 21),  # above 0 ... 0.45, not above 0.5
        ([0.51], 11 / 21),
        ([1.0, 0.0, 0.51, 0.0], 31 / 84),
    ],
)
def test_success_auc(iou, expected):
    assert success_auc(np.array(iou)) == pytest.approx(expected)


def test_success_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        success_auc(np.array([]))

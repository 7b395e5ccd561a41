"""The measures of TAP-Vid: cases counted by hand, and a loop over single points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidtrack.benchmark.point_metrics import THRESHOLDS, evaluated_frames, tapvid_metrics, within_by_frame

NAN = np.nan


def by_loops(query_frames, true_xy, true_occluded, predicted_xy, predicted_occluded, mode):
    """The definitions of the paper (section 3.2), point by point and with counts."""
    right = total = 0
    counts = {d: {"TP": 0, "FP": 0, "FN": 0, "near": 0, "visible": 0} for d in THRESHOLDS}
    for q in range(true_occluded.shape[0]):
        for t in range(true_occluded.shape[1]):
            if t == query_frames[q] or (mode == "first" and t < query_frames[q]):
                continue
            (x, y), (u, v) = true_xy[q, t], predicted_xy[q, t]
            lost = np.isnan(u) or np.isnan(v)
            said_visible = not predicted_occluded[q, t] and not lost
            is_visible = not true_occluded[q, t]
            right += said_visible == is_visible
            total += 1
            for d, count in counts.items():
                near = not lost and (u - x) ** 2 + (v - y) ** 2 < d**2
                count["visible"] += is_visible
                count["near"] += is_visible and near
                count["TP"] += is_visible and said_visible and near
                count["FN"] += is_visible and not (said_visible and near)
                count["FP"] += said_visible and not (is_visible and near)
    scores = {"occlusion_accuracy": right / total if total else NAN}
    for d, count in counts.items():
        positives = count["TP"] + count["FP"] + count["FN"]
        scores[f"pts_within_{d}"] = count["near"] / count["visible"] if count["visible"] else NAN
        scores[f"jaccard_{d}"] = count["TP"] / positives if positives else NAN
    scores["average_pts_within_thresh"] = np.mean([scores[f"pts_within_{d}"] for d in THRESHOLDS])
    scores["average_jaccard"] = np.mean([scores[f"jaccard_{d}"] for d in THRESHOLDS])
    return scores


@st.composite
def videos(draw):
    queries, frames = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    places = st.integers(-9, 9).map(float)
    maybe = st.one_of(places, st.just(NAN))
    return (
        draw(hnp.arrays(np.int64, queries, elements=st.integers(0, frames - 1))),
        draw(hnp.arrays(np.float64, (queries, frames, 2), elements=places)),
        draw(hnp.arrays(bool, (queries, frames))),
        draw(hnp.arrays(np.float64, (queries, frames, 2), elements=maybe)),
        draw(hnp.arrays(bool, (queries, frames))),
    )


@pytest.mark.parametrize("mode", ["first", "strided"])
@settings(deadline=None, max_examples=150)
@given(video=videos())
def test_equal_to_a_loop_over_points(mode, video):
    expected = by_loops(*video, mode)
    scores = tapvid_metrics(*video, mode)
    assert scores.keys() == expected.keys()
    for key, value in expected.items():
        assert scores[key] == pytest.approx(value, nan_ok=True), key


@pytest.mark.parametrize("mode", ["first", "strided"])
@settings(deadline=None, max_examples=100)
@given(video=videos())
def test_a_frame_of_the_series_is_the_score_of_that_frame_alone(mode, video):
    given, truth, occluded, found, said = video
    series = within_by_frame(given, truth, occluded, found, mode)
    evaluated = evaluated_frames(given, occluded.shape[1], mode)
    for t, value in enumerate(series):
        hidden = occluded.copy()
        hidden[:, np.arange(occluded.shape[1]) != t] = True
        alone = tapvid_metrics(given, truth, hidden, found, said, mode)["average_pts_within_thresh"]
        assert (value is None) == (not (evaluated & ~occluded)[:, t].any()) == np.isnan(alone)
        assert value is None or value == pytest.approx(alone)


def test_one_query_counted_by_hand():
    truth = np.zeros((1, 6, 2))
    occluded = np.array([[True, False, False, False, True, True]])  # given in frame 1
    found = np.array([[[99, 0], [99, 0], [0, 3], [0, 0], [0, 0], [0, 0]]], float)
    said = np.array([[False, False, False, True, False, True]])
    scores = tapvid_metrics([1], truth, occluded, found, said, "first")
    # Evaluated are the frames 2 to 5. Visible are 2, found 3 pixels off, and 3, exact but said to be hidden.
    assert scores["occlusion_accuracy"] == 2 / 4  # frames 2 and 5
    assert [scores[f"pts_within_{d}"] for d in THRESHOLDS] == [1 / 2, 1 / 2, 1, 1, 1]
    # Below 4 pixels: no TP, FN in 2 and 3, FP in 2 and 4. From 4 on: TP in 2, FN in 3, FP in 4.
    assert [scores[f"jaccard_{d}"] for d in THRESHOLDS] == [0, 0, 1 / 3, 1 / 3, 1 / 3]
    assert scores["average_jaccard"] == pytest.approx(1 / 5)
    assert scores["average_pts_within_thresh"] == pytest.approx(4 / 5)
    assert within_by_frame([1], truth, occluded, found, "first") == [None, None, 0.6, 1.0, None, None]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_distance_of_exactly_the_threshold_is_too_far(threshold):
    truth, hidden = np.zeros((1, 2, 2)), np.zeros((1, 2), bool)
    for distance, expected in ((threshold, 0), (threshold - 1e-6, 1)):
        found = np.array([[[0, 0], [0.6 * distance, 0.8 * distance]]])
        scores = tapvid_metrics([0], truth, hidden, found, hidden, "first")
        assert scores[f"pts_within_{threshold}"] == scores[f"jaccard_{threshold}"] == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("first", [[0, 0, 0, 1], [0, 1, 1, 1]]), ("strided", [[1, 1, 0, 1], [0, 1, 1, 1]])],
)
def test_which_frames_are_evaluated(mode, expected):
    assert evaluated_frames([2, 0], 4, mode).astype(int).tolist() == expected


def test_a_lost_point_is_occluded_and_wrong():
    truth, seen = np.zeros((1, 3, 2)), np.zeros((1, 3), bool)
    occluded = np.array([[False, False, True]])
    found = np.array([[[0, 0], [NAN, NAN], [NAN, NAN]]])
    scores = tapvid_metrics([0], truth, occluded, found, seen, "first")
    assert scores["occlusion_accuracy"] == 1 / 2  # the true occlusion of frame 2 is met
    assert scores["average_pts_within_thresh"] == scores["average_jaccard"] == 0


def test_the_place_of_an_occluded_point_is_not_looked_at():
    truth = np.array([[[0, 0], [NAN, NAN], [0, 0]]])
    occluded = np.array([[False, True, False]])
    scores = tapvid_metrics([0], truth, occluded, np.zeros((1, 3, 2)), occluded, "first")
    assert set(scores.values()) == {1.0}


def test_scores_without_a_denominator_are_nan():
    truth, hidden = np.zeros((1, 2, 2)), np.array([[False, True]])
    scores = tapvid_metrics([0], truth, hidden, truth, hidden, "first")
    assert scores["occlusion_accuracy"] == 1
    assert np.isnan(scores["average_pts_within_thresh"]) and np.isnan(scores["average_jaccard"])
    scores = tapvid_metrics([0], truth, hidden, truth, np.zeros((1, 2), bool), "first")
    assert scores["average_jaccard"] == 0  # one false positive is a denominator
    scores = tapvid_metrics([1], truth, ~hidden, truth, hidden, "first")
    assert np.isnan(list(scores.values())).all()  # given in the last frame
    empty = np.zeros((0, 2, 2)), np.zeros((0, 2), bool)
    assert np.isnan(list(tapvid_metrics([], *empty, *empty, "strided").values())).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "last"}, "no query mode 'last'"),
        ({"query_frames": [3]}, "frames 3 to 3: there are 3"),
        ({"query_frames": [-1]}, "frames -1 to -1"),
        ({"query_frames": [0, 1]}, "2 query frames for 1"),
        ({"predicted_xy": np.zeros((1, 2, 2))}, "got"),
        ({"predicted_xy": np.zeros((3, 1, 2))}, "got"),
        ({"predicted_occluded": np.zeros((2, 3), bool)}, "got"),
        ({"true_occluded": np.zeros((1, 3), int)}, "must be bool"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "query_frames": [0],
        "true_xy": np.zeros((1, 3, 2)),
        "true_occluded": np.zeros((1, 3), bool),
        "predicted_xy": np.zeros((1, 3, 2)),
        "predicted_occluded": np.zeros((1, 3), bool),
        "mode": "first",
    }
    with pytest.raises(ValueError, match=message):
        tapvid_metrics(**{**arguments, **change})

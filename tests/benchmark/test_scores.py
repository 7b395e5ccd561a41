"""Scores of whole sequences: which frames and objects count, and how they are put together."""

import weakref

import numpy as np
import pytest

from vidtrack.benchmark.metrics import contour_accuracy, region_similarity
from vidtrack.benchmark.scores import KEYS, ObjectScores, score_sequence, summarize

from .conftest import SIZE, draw


def test_first_and_last_frame_are_not_scored():
    truth = [draw(index) for index in range(5)]
    results = [np.zeros(SIZE, np.uint8), *truth[1:4], np.zeros(SIZE, np.uint8)]
    scores = score_sequence(iter(truth), iter(results), [1])
    assert scores == {1: ObjectScores(J=(None, 1.0, 1.0, 1.0, None), F=(None, 1.0, 1.0, 1.0, None))}


def test_each_object_is_scored_by_itself():
    truth = [draw(index, 2) for index in range(4)]
    results = [draw(0, 2), draw(0, 2), np.where(draw(2, 2) == 1, 1, 0), draw(3, 2)]
    scores = score_sequence(truth, results, [1, 2])
    assert scores[1].J[2] == 1 and scores[2].J[2] == 0 and scores[2].F[2] == 0
    for id_ in (1, 2):
        a, b = truth[1] == id_, results[1] == id_
        assert scores[id_].J[1] == region_similarity(a, b) == pytest.approx(24 / 48)
        assert scores[id_].F[1] == contour_accuracy(a, b)


def test_ids_that_are_no_objects_count_as_background():
    truth = [draw(index, 2) for index in range(3)]
    results = [np.where(ids == 2, 9, ids) for ids in truth]
    scores = score_sequence(truth, results, [1])
    assert list(scores) == [1] and scores[1].J == (None, 1.0, None)


def test_void_is_not_scored():
    truth = [draw(index) for index in range(3)]
    results = [draw(index, 2) for index in range(3)]
    results = [np.where(ids == 2, 1, ids) for ids in results]  # a square too much
    truth[1] = np.where((results[1] == 1) & (truth[1] == 0), 255, truth[1]).astype(np.uint8)
    assert score_sequence(truth, results, [1], void=255)[1].J[1] == 1
    assert score_sequence(truth, results, [1])[1].J[1] == pytest.approx(36 / 72)


def test_wrong_lengths_are_refused():
    truth = [draw(index) for index in range(4)]
    with pytest.raises(ValueError, match="at least three frames, got 2"):
        score_sequence(truth[:2], truth[:2], [1])
    with pytest.raises(ValueError, match="shorter"):
        score_sequence(truth, truth[:3], [1])


def test_frames_are_streamed():
    """Frames are drawn pair by pair, and a pair that has been scored isn't kept."""
    alive = weakref.WeakSet()
    most = 0

    class Frame(np.ndarray):
        __hash__ = object.__hash__

    def frames():
        nonlocal most
        for index in range(8):
            frame = draw(index).view(Frame)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame
            del frame

    score_sequence(frames(), frames(), [1])
    assert most <= 6  # this pair, the one before it, and what the loop of the caller still names


def test_the_mean_is_over_objects():
    def scores(j, f):
        return ObjectScores(J=(None, *j, None), F=(None, *f, None))

    got = summarize([scores([1.0, 0.0], [1.0, 1.0]), scores([0.8], [0.4]), scores([0.6], [0.2])])
    # J of the three objects: means 0.5 0.8 0.6, recalls 0.5 1 1, decays 1 0 0.
    assert list(got) == list(KEYS)
    assert got["J-Mean"] == pytest.approx((0.5 + 0.8 + 0.6) / 3)
    assert got["F-Mean"] == pytest.approx((1.0 + 0.4 + 0.2) / 3)
    assert got["J&F-Mean"] == pytest.approx((got["J-Mean"] + got["F-Mean"]) / 2)
    assert got["J-Recall"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert got["F-Recall"] == pytest.approx((1 + 0 + 0) / 3)
    assert got["J-Decay"] == pytest.approx(1 / 3)
    assert got["F-Decay"] == 0
    with pytest.raises(ValueError, match="no objects"):
        summarize([])


def test_json_and_back():
    scores = ObjectScores(J=(None, 0.5, 0.25, None), F=(None, 1.0, 0.5, None))
    value = scores.to_json()
    assert value["J"] == [None, 0.5, 0.25, None] and value["F-Mean"] == 0.75
    assert ObjectScores.from_json(value) == scores

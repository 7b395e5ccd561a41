"""The baselines of tests/benchmarks/keypoints.py on a drawn video whose motion is known."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vidtrack.benchmark.pose import score
from vidtrack.labels.boxes import Boxes
from vidtrack.labels.keypoints import Keypoints

STEP = np.array([3, -2], np.float32)  # pixels per frame


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[1] / "benchmarks/keypoints.py"
    spec = importlib.util.spec_from_file_location("keypoints_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images():
    """Four frames of a blurred noise that moves by STEP."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    noise = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)
    corners = [(20 - STEP * index).astype(int) for index in range(4)]
    return [noise[y : y + 100, x : x + 140] for x, y in corners]


def test_points_follow_the_motion(script, images):
    given = Keypoints.from_points([(60.25, 50.5), (90, 40), (np.nan, np.nan)])
    given.visible[0, 1] = False
    found = list(script.follow_keypoints(given, iter(images)))
    assert len(found) == len(images)
    np.testing.assert_array_equal(found[0].xy, given.xy)
    for index, points in enumerate(found):
        np.testing.assert_allclose(points.xy, given.xy + index * STEP, atol=0.1)


def test_a_lost_point_stays_where_it_was(script):
    flat = np.full((80, 80, 3), 128, np.uint8)
    given = Keypoints.from_points([(40, 40)])
    found = list(script.follow_keypoints(given, iter([flat, flat])))
    np.testing.assert_array_equal(found[1].xy, given.xy)


def test_boxes_follow_the_motion_and_keep_their_size(script, images):
    given = Boxes((1, 2), np.array([[50, 40, 90, 60], [np.nan] * 4], np.float32), np.ones(2, np.float32))
    found = list(script.follow_boxes(given, iter(images)))
    np.testing.assert_array_equal(given.xyxy[0], [50, 40, 90, 60])
    for index, boxes in enumerate(found):
        np.testing.assert_allclose(boxes.xyxy[0], given.xyxy[0] + index * np.tile(STEP, 2), atol=0.1)
        assert np.isnan(boxes.xyxy[1]).all()


def test_all_rows_of_the_table(script, data):
    sets = script.load_sets(data / "eval")
    rows = script.measure("copy", sets)
    figures = {row: round(100 * score, 1) for row, (_, score) in rows.items()}
    assert list(figures.values()) == [1.3, 0, 1.3, 12.1, 51.8, 34.7, 14.5]
    assert sum("jumps" in row for row in figures) == 2
    table = script.table({"copy": rows}, {"copy": 0.0})
    assert table.row_count == len(rows) + 1


def test_a_tracker_is_asked_from_the_given_frame_to_the_last_annotated_one(script, data):
    calls = []

    class Copying:
        def propagate(self, source, *, annotations, start, end):
            calls.append((source, list(annotations), start, end))
            for index in range(start, end):
                yield SimpleNamespace(index=index, labels=annotations[start])

    bear = script.load_sets(data / "eval")["BADJA bear"]
    found = script.propagate(Copying(), bear)
    assert calls == [(bear.frames.path, [2], 2, 81)]
    assert list(found) == list(range(2, 81))
    assert score(bear, found) == score(bear, script.copy(bear))

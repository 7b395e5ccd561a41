"""Box sets: what is loaded and scored, wrong layouts, and the figure of a real sequence."""

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.benchmark.boxes import BoxSet, score
from vidtrack.labels.boxes import Boxes

from .conftest import save_gray

LOST = (np.nan,) * 4
TWO = "frame,object,x1,y1,x2,y2"
CORNERS = "frame,x1,y1,x2,y2,x3,y3,x4,y4"


def boxes(found):
    """Boxes of a frame from `{id: (x1, y1, x2, y2)}`."""
    return Boxes(tuple(found), np.array(list(found.values()), np.float32), np.ones(len(found), np.float32))


@pytest.fixture
def make(tmp_path):
    """Function that writes a set with 5 frames of 40x30 pixels: lines of the CSV -> its path."""

    def make_set(*lines):
        for index in range(5):
            frame = tmp_path / "JPEGImages/vot/bag" / f"{index:05d}.jpg"
            save_gray(frame, np.full((30, 40, 3), 40 * index, np.uint8))
        path = tmp_path / "Boxes/bag.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return make_set


def test_four_corners_become_the_box_around_them(make, tmp_path):
    found = BoxSet.load(make(CORNERS, "1,2,0,4,2,2,4,0,2", "2,12,0,14,2,12,4,10,2"))
    assert (found.name, found.first, found.numbers, len(found.ids)) == ("bag", 1, (1, 2), 1)
    assert found.frames.path == tmp_path / "JPEGImages/vot/bag"
    np.testing.assert_array_equal(found.xyxy, [[[0, 0, 4, 4]], [[10, 0, 14, 4]]])
    np.testing.assert_array_equal(found.given.xyxy, [[0, 0, 4, 4]])
    np.testing.assert_array_equal(found.scored, [[False], [True]])


def test_score_by_hand(make):
    truth = BoxSet.load(
        make(
            TWO,
            *("0,7,0,0,4,2", "0,3,10,10,14,14"),
            *("1,7,0,0,4,2", "1,3,10,10,14,14"),
            *("2,3,10,10,14,14", "2,9,0,0,1,1"),  # 7 is not annotated here; 9 was not given
            *("4,7,0,0,4,2", "4,3,10,10,14,14"),
        )
    )
    ids = dict(zip(truth.ids, range(2), strict=True))
    assert set(ids) == {3, 7}
    assert truth.scored[:, ids[7]].tolist() == [False, True, False, True]
    assert truth.scored[:, ids[3]].tolist() == [False, True, True, True]
    predictions = {
        1: boxes({7: (2, 1, 6, 3), 3: (10, 10, 14, 14)}),  # 2/14; 1
        2: boxes({7: (0, 0, 4, 2), 3: (10, 10, 14, 12), 9: (0, 0, 1, 1)}),  # -; 1/2
        4: boxes({3: LOST}),  # 0: missing; 0: lost
    }
    result = score(truth, predictions)
    assert result["IoU-Mean"] == pytest.approx((2 / 14 + 1 + 1 / 2) / 5)
    assert result["Success-AUC"] == pytest.approx((3 + 20 + 10) / 21 / 5)
    assert (result["boxes"], result["frames"], result["lost"]) == (5, 3, 2)
    assert result["objects"] == pytest.approx({"7": 1 / 14, "3": 1 / 2})
    with pytest.raises(ValueError, match="no prediction of frame 4"):
        score(truth, {1: predictions[1], 2: predictions[2]})


def test_an_object_that_is_never_scored(make):
    truth = BoxSet.load(make(TWO, "0,1,0,0,4,2", "0,2,0,0,4,2", "1,1,0,0,4,2"))
    assert score(truth, {1: boxes({1: (0, 0, 4, 2)})})["objects"] == {"1": 1, "2": None}


def test_a_row_without_numbers_is_no_annotation(make):
    lines = ("0,1,,,,", "1,1,0,0,4,2", "1,2,,,,", "2,1,0,0,4,2", "2,2,0,0,4,2", "3,1,,,,")
    truth = BoxSet.load(make(TWO, *lines))
    assert (truth.numbers, truth.ids, truth.scored.tolist()) == ((1, 2), (1,), [[False], [True]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("0,1,0,0,4,2",), "has boxes in fewer than two frames"),
        (("0,1,0,0,4,2", "5,1,0,0,4,2"), "labels frame 5, but .*bag has 5 frames"),
        (("0,1,0,0,4,2", "1,2,0,0,4,2"), "has no box of frame 0 again"),
    ],
)
def test_nothing_to_score(make, lines, message):
    with pytest.raises(InputError, match=message):
        BoxSet.load(make(TWO, *lines))


def test_frames_that_are_missing(make, tmp_path):
    path = make(TWO, "0,1,0,0,4,2", "1,1,0,0,4,2")
    folder = (tmp_path / "JPEGImages/vot/bag").rename(tmp_path / "frames")
    with pytest.raises(InputError, match="JPEGImages has no frames of bag"):
        BoxSet.load(path)
    assert BoxSet.load(path, frames=folder).frames.path == folder


def test_copying_the_first_box_of_a_real_sequence(data):
    truth = BoxSet.load(data / "eval/VOT-bag/Boxes/bag.csv")
    copied = score(truth, dict.fromkeys(truth.numbers, truth.given))
    assert (round(copied["IoU-Mean"], 3), copied["boxes"], copied["lost"]) == (0.145, 59, 0)
    assert score(truth, truth.truth)["IoU-Mean"] == 1

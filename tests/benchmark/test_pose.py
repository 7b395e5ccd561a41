"""Keypoint sets: which points are scored, the size each protocol measures by, wrong layouts, real figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.benchmark.pose import PoseSet, score
from vidtrack.labels.keypoints import Keypoints

from .conftest import save_gray

NAN = np.nan
SIZE = 30, 40  # height, width: a diagonal of 50


def keypoints(xy, names=("a", "b"), instances=("0",)):
    xy = np.asarray(xy, np.float32)
    seen = np.isfinite(xy).all(-1)
    return Keypoints(xy, seen, seen.astype(np.float32), tuple(names), tuple(instances))


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def make(tmp_path):
    """Function that writes a set with 5 frames: lines of the CSV -> its path."""

    def make_set(*lines, resolution="480p"):
        for index in range(5):
            frame = tmp_path / "JPEGImages" / resolution / "walk" / f"{index:05d}.jpg"
            save_gray(frame, np.full((*SIZE, 3), 40 * index, np.uint8))
        return write(tmp_path / "Keypoints/walk.csv", "frame,instance,keypoint,x,y,visible", *lines)

    return make_set


MOVES = ("1,0,a,10,10,1", "1,0,b,20,20,1", "3,0,a,10,12.5,1", "3,0,b,20,30,1")


def test_what_is_loaded(make, tmp_path):
    pose = PoseSet.load(make(*MOVES), "frame-diagonal")
    assert (pose.name, pose.protocol, pose.alpha) == ("walk", "frame-diagonal", 0.05)
    assert (pose.first, pose.numbers, pose.instances, pose.names) == (1, (1, 3), ("0",), ("a", "b"))
    assert pose.frames.path == tmp_path / "JPEGImages/480p/walk"
    assert [file.name for file in pose.frames.files] == [f"{i:05d}.jpg" for i in range(5)]
    assert pose.frames.size == SIZE
    np.testing.assert_array_equal(pose.given.xy, [[[10, 10], [20, 20]]])
    np.testing.assert_array_equal(pose.xy, [[[[10, 10], [20, 20]]], [[[10, 12.5], [20, 30]]]])
    np.testing.assert_array_equal(pose.scored, [[[False, False]], [[True, True]]])
    np.testing.assert_allclose(pose.threshold_px, [[2.5], [2.5]])
    np.testing.assert_allclose(pose.motion_px, [[[NAN, NAN]], [[2.5, 10]]])


def test_scored_are_points_seen_in_their_frame_and_in_the_first(make):
    pose = PoseSet.load(
        make(
            "0,0,never,,,1",  # this frame has no place of any point: not annotated
            *("1,0,both,1,1,1", "1,0,hidden first,2,2,0", "1,0,hidden now,3,3,1", "1,0,new,,,0"),
            *("2,0,both,1,1,1", "2,0,hidden first,2,2,1", "2,0,hidden now,3,3,0", "2,0,new,4,4,1"),
            *("4,0,both,,,1", "4,0,hidden now,5,5,1"),
        ),
        "frame-diagonal",
    )
    assert pose.numbers == (1, 2, 4)
    scored = {
        (f, pose.names[p])
        for f, where in zip(pose.numbers, pose.scored, strict=True)
        for _, p in np.argwhere(where)
    }
    assert scored == {(2, "both"), (4, "hidden now")}


def test_score_by_hand(make):
    pose = PoseSet.load(make(*MOVES, "4,0,a,0,0,1", "4,0,b,5,5,1"), "frame-diagonal")
    predictions = {
        3: keypoints([[[10, 10], [20, 27]]]),  # 2.5 px off: correct at the limit; 3 px off
        4: keypoints([[[NAN, NAN], [5, 5]]]),  # lost; exact
    }
    assert score(pose, predictions) == {
        "protocol": "frame-diagonal",
        "alpha": 0.05,
        "PCK": 0.5,
        "points": 4,
        "frames": 2,
        "lost": 1,
        "keypoints": {"a": 0.5, "b": 0.5},
        "instances": {"0": 0.5},
    }
    assert score(PoseSet.load(make(*MOVES), "frame-diagonal", alpha=0.06), predictions)["PCK"] == 1


def test_score_of_some_points_only(make):
    pose = PoseSet.load(make(*MOVES), "frame-diagonal")
    result = score(pose, {3: keypoints([[[10, 12.5], [0, 0]]])}, pose.motion_px < 5)
    assert (result["PCK"], result["points"], result["keypoints"]) == (1, 1, {"a": 1, "b": None})


def test_predictions_are_matched_by_name(make):
    pose = PoseSet.load(
        make(
            *(
                f"{f},{i},{k},{f + x},{x},1"
                for f in (1, 3)
                for i, k, x in [("p", "a", 1), ("p", "b", 11), ("q", "a", 21), ("q", "b", 31)]
            )
        ),
        "frame-diagonal",
    )
    turned = keypoints([[[34, 31], [24, 21]], [[14, 11], [4, 1]]], ("b", "a"), ("q", "p"))
    assert score(pose, {3: turned})["PCK"] == 1
    one = score(pose, {3: keypoints([[[34, 31]]], ("b",), ("q",))})
    assert (one["PCK"], one["lost"]) == (0.25, 3)
    assert (one["instances"], one["keypoints"]) == ({"p": 0, "q": 0.5}, {"a": 0, "b": 0.5})
    with pytest.raises(ValueError, match="no nose: the truth has a, b"):
        score(pose, {3: keypoints([[[0, 0]]], ("nose",), ("q",))})
    with pytest.raises(ValueError, match="no r: the truth has p, q"):
        score(pose, {3: keypoints([[[0, 0]]], ("a",), ("r",))})
    with pytest.raises(ValueError, match="no prediction of frame 3"):
        score(pose, {1: turned})


def test_badja_measures_by_the_silhouette_of_the_scored_frame(make, tmp_path):
    path = make(*MOVES)
    masks = tmp_path / "Annotations/480p/walk"
    for index, side in ((1, 20), (3, 10)):
        mask = np.zeros(SIZE, np.uint8)
        mask[:side, :side] = 7
        save_gray(masks / f"{index:05d}.png", mask)
    pose = PoseSet.load(path, "badja")
    np.testing.assert_allclose(pose.threshold_px, [[NAN], [2]])  # 0.2 sqrt(100)
    assert score(pose, {3: keypoints([[[10, 10], [20, 28]]])})["keypoints"] == {"a": 0, "b": 1}

    elsewhere = masks.rename(tmp_path / "silhouettes")
    np.testing.assert_allclose(PoseSet.load(path, "badja", masks=elsewhere).threshold_px[1], 2)
    with pytest.raises(InputError, match="Annotations/480p/walk is missing"):
        PoseSet.load(path, "badja")
    save_gray(elsewhere / "00003.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match=r"00003\.png is empty"):
        PoseSet.load(path, "badja", masks=elsewhere)
    save_gray(elsewhere / "00003.png", np.ones((3, 4), np.uint8))
    with pytest.raises(InputError, match=r"00003\.png has 4x3 pixels, but the frames have 40x30"):
        PoseSet.load(path, "badja", masks=elsewhere)
    (elsewhere / "00003.png").unlink()
    with pytest.raises(InputError, match=r"00003\.png is missing"):
        PoseSet.load(path, "badja", masks=elsewhere)
    with pytest.raises(InputError, match="2 instances"):
        PoseSet.load(make(*MOVES, "1,1,a,1,1,1", "3,1,a,1,1,1"), "badja", masks=elsewhere)


def test_posetrack_measures_by_the_head_of_the_person_in_the_scored_frame(make, tmp_path):
    path = make(*MOVES, "1,1,a,1,1,1", "3,1,a,1,1,1")
    heads = write(
        path.with_suffix(".heads.csv"),
        "frame,instance,x1,y1,x2,y2",
        *("1,0,0,0,300,400", "3,0,2,2,5,6", "3,1,0,0,6,8", "2,0,1,1,2,2", "3,stranger,1,1,2,2"),
    )
    pose = PoseSet.load(path, "posetrack")
    # 0.5 * 0.6 * diagonal; the head of instance 1 in the given frame isn't needed
    np.testing.assert_allclose(pose.threshold_px, [[150, NAN], [1.5, 3]])
    found = keypoints([[[10, 14], [20, 32]], [[4, 1], [NAN, NAN]]], instances=("0", "1"))
    assert score(pose, {3: found})["instances"] == {"0": 0.5, "1": 1}

    moved = heads.rename(tmp_path / "heads.txt")
    np.testing.assert_allclose(PoseSet.load(path, "posetrack", heads=moved).threshold_px[1], [1.5, 3])
    with pytest.raises(InputError, match=r"walk\.heads\.csv doesn't exist: give .* the boxes of heads"):
        PoseSet.load(path, "posetrack")


HEADS = "frame,instance,x1,y1,x2,y2"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEADS, "1,0,0,0,3,4"), "has no head of instance 0 in frame 3: add its box"),
        ((HEADS, "3,0,0,0,3,4", "3,0,1,1,2,2"), "line 3: frame 3 has two heads of instance 0"),
        ((HEADS, "3,0,3,0,3,4"), "line 2: a head's box needs x1 < x2 and y1 < y2"),
        ((HEADS, "3,0,0,5,3,4"), "line 2: a head's box needs x1 < x2 and y1 < y2"),
        ((HEADS, "3,0,0,,3,4"), "line 2: a head's box needs"),
        ((HEADS, "3,0,0,0,3"), "line 2 has 5 values for 6 columns"),
        ((HEADS, "3,0,zero,0,3,4"), "line 2: x1 is 'zero'"),
        ((HEADS, "3.5,0,0,0,3,4"), "line 2: frame is '3.5'"),
        (("frame,instance,x1,y1,x2", "3,0,0,0,3"), "lacks the column 'y2'"),
    ],
)
def test_wrong_heads(make, lines, message):
    path = make(*MOVES)
    write(path.with_suffix(".heads.csv"), *lines)
    with pytest.raises(InputError, match=message):
        PoseSet.load(path, "posetrack")


def test_frames_elsewhere_or_at_several_resolutions(make, tmp_path):
    path = make(*MOVES)
    make(*MOVES, resolution="1080p")
    with pytest.raises(InputError, match=r"several resolutions \(1080p, 480p\)"):
        PoseSet.load(path, "frame-diagonal")
    folder = tmp_path / "JPEGImages/1080p/walk"
    assert PoseSet.load(path, "frame-diagonal", frames=folder).frames.path == folder
    with pytest.raises(InputError, match="no/where is not a folder"):
        PoseSet.load(path, "frame-diagonal", frames=tmp_path / "no/where")
    with pytest.raises(InputError, match="JPEGImages has no frames of walk"):
        PoseSet.load(write(tmp_path / "other/Keypoints/walk.csv", path.read_text()), "frame-diagonal")


def test_frames_of_another_size_than_was_labelled(make):
    path = make(*MOVES)
    meta = path.with_suffix(".meta.json")
    meta.write_text(json.dumps({"image_size": [40, 30]}))
    assert PoseSet.load(path, "frame-diagonal").frames.size == (30, 40)
    meta.write_text(json.dumps({"image_size": [80, 60]}))
    with pytest.raises(InputError, match=r"has 40x30 pixels, but .*walk\.csv was made for 80x60"):
        PoseSet.load(path, "frame-diagonal")
    meta.write_text(json.dumps({"keypoints": ["a", "b"]}))
    PoseSet.load(path, "frame-diagonal")
    for broken in ("{", "[]", '{"image_size": 5}', '{"image_size": ["wide", 3]}'):
        meta.write_text(broken)
        with pytest.raises(InputError, match=r"walk\.meta\.json can't be read"):
            PoseSet.load(path, "frame-diagonal")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("1,0,a,1,1,1",), "has keypoints in fewer than two frames"),
        (("1,0,a,1,1,1", "3,0,a,,,0"), "has keypoints in fewer than two frames"),
        (("1,0,a,1,1,1", "5,0,a,1,1,1"), "labels frame 5, but .*walk has 5 frames"),
        (("1,0,a,1,1,1", "3,0,b,1,1,1"), "shows no keypoint of frame 1 again"),
    ],
)
def test_nothing_to_score(make, lines, message):
    with pytest.raises(InputError, match=message):
        PoseSet.load(make(*lines), "frame-diagonal")


def test_wrong_choices(make, tmp_path):
    path = make(*MOVES)
    with pytest.raises(InputError, match="protocol coco: choose badja, posetrack, frame-diagonal"):
        PoseSet.load(path, "coco")
    for alpha in (0, -1, NAN, np.inf):
        with pytest.raises(InputError, match="alpha is"):
            PoseSet.load(path, "frame-diagonal", alpha=alpha)
    with pytest.raises(InputError, match=r"none\.csv is missing"):
        PoseSet.load(tmp_path / "none.csv", "frame-diagonal")


REAL = [  # PCK of repeating the given keypoints, and the number of scored points
    ("DLC-openfield/Keypoints/m4s1.csv", "frame-diagonal", 0.013, 236),
    ("PoseTrack-bonn/Keypoints/060470979.csv", "posetrack", 0.121, 2059),
    ("BADJA/Keypoints/bear.csv", "badja", 0.518, 280),
    ("BADJA/Keypoints/horsejump-low.csv", "badja", 0.347, 190),
]


@pytest.mark.parametrize(("file", "protocol", "expected", "points"), REAL)
def test_copying_the_first_labels_of_real_sets(data, file, protocol, expected, points):
    path = data / "eval" / file
    davis = data / "eval/DAVIS-2016-dev/JPEGImages/480p" / path.stem
    pose = PoseSet.load(path, protocol, frames=davis if protocol == "badja" else None)
    result = score(pose, dict.fromkeys(pose.numbers, pose.given))
    assert (round(result["PCK"], 3), result["points"], result["lost"]) == (expected, points, 0)
    assert score(pose, pose.truth)["PCK"] == 1


def test_the_mouse_jumps(data):
    pose = PoseSet.load(data / "eval/DLC-openfield/Keypoints/m4s1.csv", "frame-diagonal")
    result = score(pose, dict.fromkeys(pose.numbers, pose.given), pose.motion_px > 96)
    assert (result["points"], result["PCK"]) == (7, 0)

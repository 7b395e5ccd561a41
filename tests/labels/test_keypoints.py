"""Keypoints and vidtrack's own CSV: literal files, round trips, garbage, real files."""

import csv
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pretrain.errors import InputError
from vidtrack.labels import Keypoints
from vidtrack.labels.cocokeypoints import write_coco
from vidtrack.labels.deeplabcut import write_deeplabcut
from vidtrack.labels.keypointfiles import write_csv
from vidtrack.labels.textfiles import number_in_name

NAN = float("nan")
NAMES = st.text("abcxyz019_-é,\";' ", min_size=1, max_size=6).map(str.strip).filter(bool)
PIXELS = st.floats(-50, 5000, width=32)


def valid(**changes: object) -> Keypoints:
    arrays = {
        "xy": np.zeros((2, 3, 2), np.float32),
        "visible": np.ones((2, 3), bool),
        "confidence": np.ones((2, 3), np.float32),
        "names": ("a", "b", "c"),
        "instances": ("0", "1"),
    }
    return Keypoints(**{**arrays, **changes})  # type: ignore[arg-type]


def same(first: Keypoints, second: Keypoints, confidence: bool = True, visible: bool = True) -> None:
    """Equal where points have a place; what a format can't hold is left out."""
    assert (first.names, first.instances) == (second.names, second.instances)
    np.testing.assert_array_equal(first.xy, second.xy)
    if visible:
        np.testing.assert_array_equal(first.visible & first.labelled, second.visible)
    if confidence:
        np.testing.assert_array_equal(first.confidence, second.confidence)


@st.composite
def videos(draw: st.DrawFn) -> list[tuple[int, str, Keypoints]]:
    """The keypoints of a short video, with lost and occluded points."""
    instances = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    shape = (len(instances), len(names))
    frames = []
    for index in sorted(draw(st.sets(st.integers(0, 200000), min_size=1, max_size=3))):
        xy = draw(hnp.arrays(np.float32, (*shape, 2), elements=PIXELS))
        xy[draw(hnp.arrays(bool, shape))] = NAN
        visible = draw(hnp.arrays(bool, shape))
        confidence = draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
        frames.append((index, f"{index:05d}", Keypoints(xy, visible, confidence, names, instances)))
    return frames


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xy": np.zeros((2, 3, 2))}, "xy must be float32 [2, 3, 2], not float64"),
        ({"xy": np.zeros((3, 2, 2), np.float32)}, "xy must be float32 [2, 3, 2], not float32 [3, 2, 2]"),
        ({"visible": np.ones((2, 3), np.uint8)}, "visible must be bool [2, 3]"),
        ({"visible": np.ones((2, 2), bool)}, "visible must be bool [2, 3]"),
        ({"confidence": np.ones((2, 3))}, "confidence must be float32"),
        ({"confidence": np.ones(3, np.float32)}, "confidence must be float32"),
        ({"names": ("a", "b", "a")}, "names must differ"),
        ({"instances": ("0", "0")}, "instances must differ"),
        ({"skeleton": ((0, 3),)}, "below 3"),
        ({"skeleton": ((-1, 0),)}, "below 3"),
    ],
)
def test_wrong_arrays_are_refused(changes: dict, message: str) -> None:
    valid()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        valid(**changes)
    assert not isinstance(caught.value, InputError)


def test_from_points() -> None:
    keypoints = Keypoints.from_points([(1, 2.5), (NAN, NAN)], skeleton=((0, 1),))
    assert keypoints.names == ("point0", "point1")
    assert keypoints.instances == ("0",)
    assert keypoints.xy[0, 0].tolist() == [1, 2.5]
    assert keypoints.labelled.tolist() == keypoints.visible.tolist() == [[True, False]]
    assert keypoints.confidence.tolist() == [[1, 0]]
    assert keypoints.skeleton == ((0, 1),)
    assert Keypoints.from_points([(0, 0)], names=["nose"]).names == ("nose",)


def test_a_point_with_one_coordinate_is_not_labelled() -> None:
    xy = np.array([[[1, NAN], [NAN, 1], [np.inf, 1]]], np.float32)
    keypoints = Keypoints(xy, np.ones((1, 3), bool), np.ones((1, 3), np.float32), ("a", "b", "c"), ("0",))
    assert not keypoints.labelled.any()


CSV = """visible,keypoint,Frame,x, y,instance
1,nose,7,1.5,2,0
0,ear,7,3,4,0
1,nose,2,,,0
1,nose,7,5,6,1
"""


def test_csv_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "points.txt"  # the content decides
    path.write_bytes(("\ufeff" + CSV).replace("\n", "\r\n").encode())
    frames = Keypoints.load(path)
    assert list(frames) == [2, 7]
    assert all(k.names == ("nose", "ear") and k.instances == ("0", "1") for k in frames.values())
    np.testing.assert_array_equal(frames[2].xy, np.full((2, 2, 2), NAN))
    assert not frames[2].visible.any() and not frames[2].confidence.any()
    np.testing.assert_array_equal(frames[7].xy, [[[1.5, 2], [3, 4]], [[5, 6], [NAN, NAN]]])
    assert frames[7].visible.tolist() == [[True, False], [True, False]]
    assert frames[7].confidence.tolist() == [[1, 1], [1, 0]]


def test_csv_of_a_spreadsheet_that_writes_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('\ufeffFrame;Keypoint;X;Y\r\n0;"nose, left";12,5;-3,25\r\n0;tail;7;8\r\n')
    points = Keypoints.load(tmp_path / "p.csv")[0]
    assert points.names == ("nose, left", "tail")
    assert points.xy.tolist() == [[[12.5, -3.25], [7, 8]]]


def test_csv_without_the_optional_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,keypoint,x,y\n0,a,1,2\n0,b,nan,\n")
    keypoints = Keypoints.load(tmp_path / "a.csv")[0]
    assert keypoints.instances == ("0",)
    assert keypoints.visible.tolist() == [[True, False]]
    assert keypoints.confidence.tolist() == [[1, 0]]


HEADER = "frame,instance,keypoint,x,y,visible"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (HEADER, "no keypoints, only a header"),
        ("frame,keypoint,x\n0,a,1", "line 1 lacks the column 'y'"),
        ("frame,keypoint,x,y,z\n", "line 1 has the unknown column 'z'"),
        ("frame,keypoint,x,y,X\n", "the column 'x' twice"),
        ("frame;keypoint;x;z\n", "line 1 has the unknown column 'z'"),
        (f"{HEADER}\n0,0,a,1,2,1\n\n0,0,b,1,2", "line 4 has 5 values for 6 columns"),
        (f"{HEADER}\n0,0,a,1,two,1", "line 2: y is 'two'"),
        (f"{HEADER}\n0,0,a,1,inf,1", "line 2: y is 'inf'"),
        (f"{HEADER}\n0,0,a,1,1e30,1", "line 2: y is '1e30'"),
        (f"{HEADER}\n-1,0,a,1,2,1", "line 2: the frame is '-1'"),
        (f"{HEADER}\n0.5,0,a,1,2,1", "line 2: the frame is '0.5'"),
        (f"{HEADER}\n,0,a,1,2,1", "line 2: the frame is ''"),
        (f"{HEADER}\n0,0,a,1,2,yes", "line 2: visible is 'yes'"),
        (f"{HEADER}\n0,0,,1,2,1", "line 2 names no keypoint"),
        (f"{HEADER}\n0,0,a,1,,1", "line 2 has only one of x and y"),
        (f"{HEADER}\n0,0,a,1,2,1\n0.0,0,a,1,2,1", "line 3: keypoint 'a' of instance '0' is in frame 0 twice"),
        (f"{HEADER},confidence\n0,0,a,1,2,1,1.5", "line 2: the confidence is 1.5"),
        ("<html>\0", "is not a text file"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Keypoints.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_errors_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("frame,keypoint,x,y\n0,Öhr,1,2\n".encode("latin-1"))
    for path, message in (
        (tmp_path / "none", "doesn't exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "latin.csv", "not UTF-8"),
    ):
        with pytest.raises(InputError, match=message):
            Keypoints.load(path)


def test_a_new_name_in_every_row_is_refused(tmp_path: Path) -> None:
    lines = "".join(f"{i},{i},k{i},1,2,1\n" for i in range(400))
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{lines}")
    with pytest.raises(InputError, match="400 instances of 400 keypoints in 400 frames"):
        Keypoints.load(tmp_path / "a.csv")


@settings(deadline=None, max_examples=60)
@given(videos())
def test_written_csv_reads_back(frames: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.csv"
        write_csv(path, iter(frames))
        with path.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        loaded = Keypoints.load(path)
    assert list(lines[0]) == ["frame", "instance", "keypoint", "x", "y", "visible", "confidence"]
    assert len(lines) == sum(keypoints.visible.size for _, _, keypoints in frames)
    assert list(loaded) == [index for index, _, _ in frames]
    for index, _, keypoints in frames:
        same(keypoints, loaded[index])


@pytest.mark.parametrize(
    "write", [write_csv, write_deeplabcut, lambda path, frames: write_coco(path, frames, (9, 9))]
)
def test_writers_refuse_what_they_cannot_write(tmp_path: Path, write: object) -> None:
    path = tmp_path / "out.csv"
    first = (0, "00000", Keypoints.from_points([(1, 2)]))
    other = (1, "00001", Keypoints.from_points([(1, 2), (3, 4)]))
    for frames in ([], [first, other]):
        with pytest.raises(ValueError) as caught:
            write(path, frames)  # type: ignore[operator]
        assert not isinstance(caught.value, InputError)
        assert not list(tmp_path.iterdir())  # nothing half-written
    write(path, [first])  # type: ignore[operator]
    with pytest.raises(InputError, match="exists already"):
        write(path, [first])  # type: ignore[operator]


def test_garbage_raises_only_input_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = [
        *HEADER.split(","),
        "scorer",
        "bodyparts",
        "coords",
        "likelihood",
        "0",
        "1",
        "-1",
        "1.5",
        "",
        "a",
    ]
    for number in range(300):
        rows = [random.choice(words, random.integers(1, 7)) for _ in range(random.integers(1, 6))]
        if number % 2:
            rows[0] = np.array(HEADER.split(",") if number % 4 == 1 else ["scorer", "s", "s", "s"])
        path = tmp_path / "garbage.csv"
        path.write_text("\n".join(",".join(row) for row in rows))
        try:
            frames = Keypoints.load(path)
        except InputError:
            continue
        assert all(isinstance(keypoints, Keypoints) for keypoints in frames.values())


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("labeled-data/m4/img0012.png", 12),
        ("C:\\data\\v2\\img7.jp2", 7),
        ("00003", 3),
        ("clip2_frame_0100.JPEG", 100),
        ("clip.0012", 12),
        ("frame.png", None),
        ("1234567890123.png", None),
    ],
)
def test_number_in_name(name: str, number: int | None) -> None:
    assert number_in_name(name) == number


def test_real_files(data: Path) -> None:
    """The sets of the shared data: shapes and counts against the lines of the file."""
    paths = [p for p in sorted(data.glob("eval/*/Keypoints/*.csv")) if "heads" not in p.name]
    assert len(paths) == 4
    for path in paths:
        frames = Keypoints.load(path)
        with path.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert sum(k.labelled.sum() for k in frames.values()) == sum(line["x"] != "" for line in lines)
        assert sum(k.visible.sum() for k in frames.values()) == sum(
            line["visible"] == "1" and line["x"] != "" for line in lines
        )
        for line in lines[:: max(1, len(lines) // 50)]:
            k = frames[int(line["frame"])]
            place = k.instances.index(line["instance"]), k.names.index(line["keypoint"])
            expected = [float(line[axis] or "nan") for axis in "xy"]
            np.testing.assert_array_equal(k.xy[place], np.float32(expected))

"""Boxes: literal files of each layout, round trips, errors, the real sequence."""

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
from vidtrack.labels import Boxes
from vidtrack.labels.boxfiles import write_mot

NAN = float("nan")


def load(folder: Path, text: str) -> dict[int, Boxes]:
    (folder / "boxes.txt").write_text(text)
    return Boxes.load(folder / "boxes.txt")


@pytest.mark.parametrize(
    ("ids", "xyxy", "confidence", "message"),
    [
        ((1,), np.zeros((1, 4)), np.ones(1, np.float32), "xyxy must be float32 [1, 4]"),
        ((1, 2), np.zeros((1, 4), np.float32), np.ones(1, np.float32), "xyxy must be float32 [2, 4]"),
        ((1,), np.zeros((1, 4), np.float32), np.ones(2, np.float32), "confidence must be float32 [1]"),
        ((1,), np.zeros((1, 4), np.float32), np.ones(1), "confidence must be float32 [1]"),
        ((2, 2), np.zeros((2, 4), np.float32), np.ones(2, np.float32), "no two the same"),
        ((0,), np.zeros((1, 4), np.float32), np.ones(1, np.float32), "from 1"),
    ],
)
def test_wrong_arrays_are_refused(ids: tuple, xyxy: np.ndarray, confidence: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Boxes(ids, xyxy, confidence)
    assert not isinstance(caught.value, InputError)


def test_from_xyxy() -> None:
    boxes = Boxes.from_xyxy([(1, 2, 3, 4.5), (NAN, NAN, NAN, NAN)])
    assert boxes.ids == (1, 2)
    assert boxes.xyxy[0].tolist() == [1, 2, 3, 4.5]
    assert boxes.labelled.tolist() == [True, False]
    assert boxes.confidence.tolist() == [1, 0]
    assert boxes.centers[0].tolist() == [0.5, 1.5, 2.5, 4.0]
    assert Boxes.from_xyxy([]).ids == ()


def test_motchallenge_counts_from_one(tmp_path: Path) -> None:
    text = "2,3,1,1,10,20.5,0.5,-1,-1,-1\n1, 7, 11.5, 1, 2, 3, -1\n1,3,5,6,7,8\n2,1,1,1,1,1,42,1,0.7\n"
    for content in (text, text.replace(",", " ")):
        frames = load(tmp_path, content)
        assert list(frames) == [0, 1]
        assert frames[0].ids == (7, 3)
        assert frames[0].xyxy.tolist() == [[10.5, 0, 12.5, 3], [4, 5, 11, 13]]
        assert frames[0].confidence.tolist() == [1, 1]
        # The first pixel of the frame is 1 for MOTChallenge, and covers 0..1 for us.
        assert frames[1].ids == (3, 1)
        assert frames[1].xyxy.tolist() == [[0, 0, 10, 20.5], [0, 0, 1, 1]]
        assert frames[1].confidence.tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("column", "ids"), [("object", (1, 2)), ("id", (1, 2)), ("instance", (2, 3)), ("ID", (1, 2))]
)
def test_header(tmp_path: Path, column: str, ids: tuple) -> None:
    frames = load(tmp_path, f"x1,y1,x2,y2,{column},frame\n1,2,3,4.5,1,0\n,,,,2,0\n5,6,7,8,2,3\n")
    assert list(frames) == [0, 3]
    assert frames[0].ids == ids
    np.testing.assert_array_equal(frames[0].xyxy, [[1, 2, 3, 4.5], [NAN] * 4])
    assert frames[0].confidence.tolist() == [1, 0]
    assert frames[3].ids == ids[1:]


def test_header_with_confidence_and_without_object(tmp_path: Path) -> None:
    frames = load(tmp_path, "frame,x1,y1,x2,y2,confidence\n0,1,2,3,4,0.25\n1,1,2,3,4,\n")
    assert [boxes.ids for boxes in frames.values()] == [(1,), (1,)]
    assert [boxes.confidence.tolist() for boxes in frames.values()] == [[0.25], [1]]


def test_four_corners_become_the_tight_box(tmp_path: Path) -> None:
    header = "frame,x1,y1,x2,y2,x3,y3,x4,y4\n"
    frames = load(tmp_path, header + "0,5,1,9,4,6,8,2,5\n1,,,,,,,,\n")
    assert frames[0].xyxy.tolist() == [[2, 1, 9, 8]]
    assert not frames[1].labelled.any() and frames[1].confidence.tolist() == [0]


HEADER = "frame,object,x1,y1,x2,y2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "a header without boxes"),
        (f"{HEADER},z\n", "unknown column 'z'"),
        ("frame,object,x1,y1,x2\n", "lacks the column 'y2'"),
        ("frame,x1,y1,x2,y2,x3,y3\n", "lacks the column 'x4'"),
        ("frame,id,object,x1,y1,x2,y2\n", "the columns object and id"),
        (f"{HEADER}\n0,1,1,2,3\n", "line 2 has 5 values for 6 columns"),
        (f"{HEADER}\n0,0,1,2,3,4\n", "line 2: the object is '0': write a whole number from 1"),
        (f"{HEADER}\n0,1,1,2,,4\n", "line 2 lacks some of x1, y1, x2, y2"),
        (f"{HEADER}\n0,1,3,2,1,4\n", "line 2 has its right or bottom edge before"),
        (f"{HEADER}\n0,1,1,4,3,2\n", "line 2 has its right or bottom edge before"),
        (f"{HEADER}\n0,1,1,2,3,4\n0,1,1,2,3,4\n", "line 3: object 1 is in frame 0 twice"),
        (f"{HEADER},confidence\n0,1,1,2,3,4,2\n", "line 2: the confidence is 2"),
        ("1,2,3,4,5\n", "line 1 has 5 values"),
        ("1,-1,3,4,5,6,0.9\n", "line 1 is a detection without an object"),
        ("0,1,3,4,5,6\n", "line 1: the frame is '0': write a whole number from 1"),
        ("1,1,3,4,,6\n", "line 1 lacks a number"),
        ("1,1,3,4,-5,6\n", "line 1 has its right or bottom edge before"),
        ("1,1,3,4,5,6\n1,1,3,4,5,6\n", "line 2: object 1 is in frame 0 twice"),
        ("1,1,3,x,5,6\n", "line 1: top is 'x'"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load(tmp_path, text)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_written_file_reads_back(data: st.DataObject) -> None:
    frames = []
    for index in sorted(data.draw(st.sets(st.integers(0, 100000), max_size=3))):
        ids = data.draw(st.lists(st.integers(1, 10**6), max_size=3, unique=True))
        corners = data.draw(
            hnp.arrays(np.float32, (len(ids), 2, 2), elements=st.floats(-100, 4000, width=32))
        )
        xyxy = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        xyxy[data.draw(hnp.arrays(bool, len(ids)))] = NAN
        confidence = data.draw(hnp.arrays(np.float32, len(ids), elements=st.floats(0, 1, width=32)))
        frames.append((index, f"{index:05d}", Boxes(tuple(ids), xyxy, confidence)))
    kept = {index: boxes for index, _, boxes in frames if boxes.labelled.any()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "boxes.txt"
        write_mot(path, iter(frames))
        lines = [line.split(",") for line in path.read_text().splitlines()]
        loaded = Boxes.load(path) if lines else {}
    assert all(len(line) == 10 and line[7:] == ["-1"] * 3 for line in lines)
    assert list(loaded) == list(kept)
    for index, boxes in kept.items():
        shown = boxes.labelled
        assert loaded[index].ids == tuple(np.array(boxes.ids)[shown].tolist())
        np.testing.assert_allclose(loaded[index].xyxy, boxes.xyxy[shown], rtol=0, atol=3e-4)
        np.testing.assert_allclose(loaded[index].confidence, boxes.confidence[shown], rtol=0, atol=1e-6)


def test_a_written_line(tmp_path: Path) -> None:
    write_mot(tmp_path / "a.txt", [(4, "00004", Boxes.from_xyxy([(0, 10, 2.5, 20)]))])
    assert (tmp_path / "a.txt").read_text() == "5,1,1,11,2.5,10,1,-1,-1,-1\n"
    with pytest.raises(InputError, match="exists already"):
        write_mot(tmp_path / "a.txt", [])


def test_garbage_raises_only_input_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = [*HEADER.split(","), "0", "1", "-1", "2.5", "", "a", "nan", '"']
    for number in range(300):
        rows = [random.choice(words, random.integers(4, 8)) for _ in range(random.integers(1, 5))]
        if number % 2:
            rows[0] = np.array(HEADER.split(","))
        try:
            frames = load(tmp_path, "\n".join(",".join(row) for row in rows))
        except InputError:
            continue
        assert all(isinstance(boxes, Boxes) for boxes in frames.values())


def test_real_sequences(data: Path) -> None:
    path = data / "eval/VOT-bag/Boxes/bag.csv"
    frames = Boxes.load(path)
    with path.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(frames) == len(lines) == 60
    for line in lines:
        xs, ys = ([float(line[f"{axis}{i}"]) for i in range(1, 5)] for axis in "xy")
        expected = np.float32([[min(xs), min(ys), max(xs), max(ys)]])
        np.testing.assert_array_equal(frames[int(line["frame"])].xyxy, expected)
    heads = Boxes.load(data / "eval/PoseTrack-bonn/Keypoints/060470979.heads.csv")
    assert len(heads) == 41 and all(boxes.ids == (1, 2, 3, 4) for boxes in heads.values())

"""Boxes as a benchmark: OTB's measures over sequences, predictions on disk, our layout, a real sequence."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pretrain.errors import InputError
from vidtrack.benchmark.boxes import BoxSet, ious, score
from vidtrack.benchmark.boxes_task import find_boxes
from vidtrack.benchmark.metrics import center_distance
from vidtrack.labels.boxes import Boxes

from .conftest import save_gray
from .said import copied, perfect, predict, scores_of

NAN = np.nan
HEADER = "frame,object,x1,y1,x2,y2"
BAG = (
    *("1,7,0,0,40,20", "1,3,100,100,140,140"),
    *("2,7,0,0,40,20", "2,3,120,100,160,140"),
    *("3,7,0,0,40,40", "4,3,100,115,140,155"),
)
CUP = ("0,1,10,10,20,20", "4,1,10,10,20,20")


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def draw_frames(folder, count=5, first=0):
    for index in range(first, first + count):
        save_gray(folder / f"{index:05d}.jpg", np.full((30, 40, 3), 40 * (index - first), np.uint8))
    return folder


@pytest.fixture
def make(tmp_path):
    """Function that writes sequences of 5 frames: `make({name: lines of the CSV})` -> root."""

    def make_set(sequences):
        for name, lines in sequences.items():
            draw_frames(tmp_path / "set/JPEGImages/vot" / name)
            write(tmp_path / f"set/Boxes/{name}.csv", HEADER, *lines)
        return tmp_path / "set"

    return make_set


def test_what_a_task_is(make):
    task = find_boxes(make({"bag": BAG, "cup": CUP}))
    assert (task.benchmark, task.title) == ("boxes", "set")
    assert task.keys == ("Success-AUC", "Precision@20", "IoU-Mean", "SR@0.5")
    assert task.protocol["layout"] == "csv"
    json.dumps(task.protocol)
    bag, cup = task.items
    assert (bag.name, bag.frames, cup.name) == ("bag", 5, "cup")
    (run,) = bag.runs()
    assert (run.name, run.start, run.end, run.direction) == ("", 1, 5, "forward")
    assert run.annotations[1].ids == (7, 3)
    with bag.video() as folder:
        assert folder.name == "bag"
    assert round(float(bag.frame(2).mean())) == 80
    assert bag.truth(4).ids == (3,)
    assert bag.truth(0) is None


def test_scores_by_hand(make, tmp_path):
    # Copies in bag: 7 has IoU 1 and 800/1600, its centre 0 and 10 px off; 3 has 800/2400 and 1000/2200, its
    # centre 20 and 15 px off. In cup: IoU 1.
    total, records = scores_of(find_boxes(make({"bag": BAG, "cup": CUP})), tmp_path, copied)
    bag = {
        "Success-AUC": (20 + 10 + 7 + 10) / 21 / 4,  # IoU 1 and 0.5 aren't above themselves; 1/3; 0.4545
        "Precision@20": 1,
        "IoU-Mean": (1 + 0.5 + 1 / 3 + 1000 / 2200) / 4,
        "SR@0.5": 1 / 4,
    }
    cup = {"Success-AUC": 20 / 21, "Precision@20": 1, "IoU-Mean": 1, "SR@0.5": 1}
    assert records["bag"]["scores"] == pytest.approx(bag)
    assert records["cup"]["scores"] == pytest.approx(cup)
    assert total == pytest.approx({key: (bag[key] + cup[key]) / 2 for key in bag})  # sequences weigh the same
    assert records["bag"]["series"] == {
        "7": [None, None, pytest.approx(1), pytest.approx(0.5), None],
        "3": [None, None, pytest.approx(1 / 3), None, pytest.approx(1000 / 2200)],
    }
    assert records["bag"]["detail"] == {
        "boxes": 4,
        "lost": 0,
        "objects": {"7": pytest.approx(0.75), "3": pytest.approx((1 / 3 + 1000 / 2200) / 2)},
    }
    json.dumps(records, allow_nan=False)


def test_perfect_predictions(make, tmp_path):
    task = find_boxes(make({"bag": BAG, "cup": CUP}))
    total, _ = scores_of(task, tmp_path, perfect)
    # Not above 1: the official area under the curve of a perfect result.
    assert total == pytest.approx({"Success-AUC": 20 / 21, "Precision@20": 1, "IoU-Mean": 1, "SR@0.5": 1})
    assert task.summarize({}) == dict.fromkeys(task.keys)


def test_lost_boxes_and_frames_are_wrong(make, tmp_path):
    (item,) = find_boxes(make({"bag": BAG})).items

    def lose(given, index):
        xyxy = given.xyxy.copy()
        xyxy[[1] if index == 2 else [0, 1]] = NAN
        return Boxes(given.ids, xyxy, given.confidence)

    folder = predict(item, tmp_path, lambda given, index: given if index == 1 else lose(given, index))
    record = item.score(folder)  # the file has no line of frames 3 and 4
    assert record["scores"] == pytest.approx(
        {"Success-AUC": 20 / 21 / 4, "Precision@20": 1 / 4, "IoU-Mean": 1 / 4, "SR@0.5": 1 / 4}
    )
    assert record["detail"]["lost"] == 3
    assert record["series"]["3"] == [None, None, 0, None, 0]
    assert item.predicted(folder, 3) is None
    assert item.predicted(folder, 2).ids == (7,)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("1,1,0,0,4,2,1,-1,-1,-1",), "has object 1 in frame 0, but given are 7, 3"),
        (("1,7,0,0,4,2,1,-1,-1,-1",), "has none of the frames 1 to 4"),
    ],
)
def test_predictions_of_something_else(make, tmp_path, lines, message):
    (item,) = find_boxes(make({"bag": BAG})).items
    path = write(tmp_path / "wrong/boxes.csv", *lines)
    with pytest.raises(InputError, match=rf"wrong/boxes\.csv {message}"):
        item.score(path.parent)
    path.unlink()
    with pytest.raises(InputError, match=r"wrong/boxes\.csv is missing"):
        item.score(path.parent)


def test_a_file_without_a_line_has_lost_all(make, tmp_path):
    (item,) = find_boxes(make({"bag": BAG})).items
    path = write(tmp_path / "lost/boxes.csv", "")
    path.write_bytes(b"")
    record = item.score(path.parent)
    assert (record["scores"]["IoU-Mean"], record["detail"]["lost"]) == (0, 4)


def test_one_file_and_frames_elsewhere(make, tmp_path):
    root = make({"bag": BAG, "cup": CUP})
    assert [item.name for item in find_boxes(root / "Boxes/cup.csv").items] == ["cup"]
    moved = (root / "JPEGImages/vot").rename(tmp_path / "frames")
    with pytest.raises(InputError, match="JPEGImages has no frames of bag"):
        find_boxes(root)
    for frames in (moved, moved / "cup"):
        task = find_boxes(root / "Boxes/cup.csv", frames=frames)
        with task.items[0].video() as folder:
            assert folder == moved / "cup"
    assert len(find_boxes(root, frames=moved).items) == 2


def test_wrong_layouts(make, tmp_path):
    with pytest.raises(InputError, match="none is missing"):
        find_boxes(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no boxes: it needs Boxes/<sequence>\.csv"):
        find_boxes(tmp_path)
    (tmp_path / "empty/Boxes").mkdir(parents=True)
    with pytest.raises(InputError, match="Boxes holds no boxes"):
        find_boxes(tmp_path / "empty")
    root = make({"bag": BAG})
    write(root / "Boxes/bag.txt", "1,1,0,0,4,2,1,-1,-1,-1")
    with pytest.raises(InputError, match="two files of boxes of bag"):
        find_boxes(root)


def test_fingerprints_tell_of_any_change(make):
    root = make({"bag": BAG})
    before = find_boxes(root).items[0].fingerprint()
    assert pickle.loads(pickle.dumps(find_boxes(root).items[0])).fingerprint() == before
    write(root / "Boxes/bag.csv", HEADER, *BAG[:-1], "4,3,100,116,140,155")
    assert find_boxes(root).items[0].fingerprint() != before
    make({"bag": BAG})
    assert find_boxes(root).items[0].fingerprint() == before
    save_gray(root / "JPEGImages/vot/bag/00003.jpg", np.zeros((30, 40, 3), np.uint8))
    assert find_boxes(root).items[0].fingerprint() != before


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 4, 2), (0, 0, 4, 2), 0),
        ((0, 0, 4, 2), (3, 4, 7, 6), 5),
        ((0, 0, 4, 2), (1, 0, 3, 2), 0),  # another size, the same centre
        ((0, 0, 4, 2), (0, 0, 6, 2), 1),
        ((0, 0, 4, 2), (NAN,) * 4, np.inf),
        ((NAN,) * 4, (NAN,) * 4, np.inf),
    ],
)
def test_center_distance_by_hand(a, b, expected):
    a, b = np.array([a], np.float32), np.array([b], np.float32)
    assert center_distance(a, b).tolist() == [expected]
    assert center_distance(b, a).tolist() == [expected]


def test_center_distance_of_other_shapes():
    with pytest.raises(ValueError, match=r"\[2, 4\], \[1, 4\]"):
        center_distance(np.zeros((2, 4)), np.zeros((1, 4)))


def otb_tool(truth, found):
    """The definitions of OTB's tool on x, y, width, height with whole pixels, box by box."""
    overlaps, near = [], 0
    for (x, y, w, h), (u, v, p, q) in zip(truth, found, strict=True):
        across = max(0, min(x + w - 1, u + p - 1) - max(x, u) + 1)
        down = max(0, min(y + h - 1, v + q - 1) - max(y, v) + 1)
        overlaps.append(across * down / (w * h + p * q - across * down))
        dx, dy = x + (w - 1) / 2 - u - (p - 1) / 2, y + (h - 1) / 2 - v - (q - 1) / 2
        near += (dx * dx + dy * dy) ** 0.5 <= 20
    success = [sum(o > t / 20 for o in overlaps) / len(overlaps) for t in range(21)]
    return sum(success) / 21, near / len(truth), sum(overlaps) / len(overlaps), success[10]


PLACES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(1, 30))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(PLACES, PLACES), min_size=1, max_size=6))
def test_equal_to_a_transcription_of_the_otb_tool(pairs):
    def boxes(values):
        x, y, w, h = values
        xyxy = np.array([[x - 1, y - 1, x - 1 + w, y - 1 + h]], np.float32)
        return Boxes((1,), xyxy, np.ones(1, np.float32))

    truth = {0: boxes((1, 1, 2, 2)), **{n: boxes(true) for n, (true, _) in enumerate(pairs, 1)}}
    xyxy = np.stack([b.xyxy for b in truth.values()])
    sequence = BoxSet("otb", None, truth, tuple(truth), (1,), xyxy, ())
    result = score(sequence, {n: boxes(found) for n, (_, found) in enumerate(pairs, 1)})
    expected = otb_tool(*zip(*pairs, strict=True))
    found = [result[key] for key in ("Success-AUC", "Precision@20", "IoU-Mean", "SR@0.5")]
    assert found == pytest.approx(expected)


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(bool, (3, 2)))
def test_ious_are_those_of_scored_boxes(known):
    box = np.array([0, 0, 4, 2], np.float32)
    xyxy = np.where(np.vstack([[[True, True]], known])[..., None], box, NAN).astype(np.float32)
    truth = {n: Boxes((1, 2), row, np.ones(2, np.float32)) for n, row in enumerate(xyxy)}
    sequence = BoxSet("b", None, truth, tuple(truth), (1, 2), xyxy, ())
    found = ious(sequence, dict.fromkeys(range(1, 4), truth[0]))
    np.testing.assert_array_equal(found[1:], np.where(known, 1, NAN))
    assert np.isnan(found[0]).all()


def test_a_real_sequence(data, tmp_path):
    task = find_boxes(data / "eval/VOT-bag")
    assert (task.title, task.protocol["layout"]) == ("VOT-bag", "csv")
    total, records = scores_of(task, tmp_path / "copied", copied)
    assert {key: round(value, 3) for key, value in total.items()} == {
        "Success-AUC": 0.162,
        "Precision@20": 0.0,
        "IoU-Mean": 0.145,
        "SR@0.5": 0.034,
    }
    assert records["bag"]["detail"]["boxes"] == 59
    assert scores_of(task, tmp_path, perfect)[0]["IoU-Mean"] == pytest.approx(1)

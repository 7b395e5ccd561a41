"""The layouts of OTB and VOT: coordinates, several objects, pictures that don't count, damaged sets."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.benchmark.boxes_task import find_boxes
from vidtrack.benchmark.otb import PARTS
from vidtrack.benchmark.predictions import Writer

from .conftest import save_gray


def draw_frames(folder, count, first=1, digits=4):
    for index in range(count):
        name = f"{first + index:0{digits}d}.jpg"
        save_gray(folder / name, np.full((30, 40, 3), 20 * index % 256, np.uint8))


def add_otb(root, name, *lines, frames=None, file="groundtruth_rect.txt", first=1):
    draw_frames(root / name / "img", len(lines) if frames is None else frames, first)
    (root / name / file).write_text("\n".join(lines) + "\n")


def add_vot(root, name, *lines, folder="color"):
    draw_frames(root / name / folder, len(lines), digits=8)
    (root / name / "groundtruth.txt").write_text("\n".join(lines) + "\n")


def copies(item, folder):
    (run,) = item.runs()
    writer = Writer(folder, run)
    for index in range(run.start, run.end):
        writer.put(SimpleNamespace(index=index, name="", labels=run.annotations[run.start]))
    writer.close()
    return item.score(folder)


@pytest.mark.parametrize("between", [",", "\t", " ", ", "])
def test_boxes_of_otb_count_pixels_from_one(tmp_path, between):
    lines = (
        between.join(line) for line in (("1", "1", "4", "2"), ("3", "2", "4", "2"), ("11", "21", "1", "1"))
    )
    add_otb(tmp_path, "Deer", *lines)
    task = find_boxes(tmp_path)
    assert (task.protocol["layout"], [item.name for item in task.items]) == ("otb", ["Deer"])
    (item,) = task.items
    assert [item.truth(n).xyxy[0].tolist() for n in range(3)] == [
        [0, 0, 4, 2],
        [2, 1, 6, 3],
        [10, 20, 11, 21],
    ]
    with item.video() as folder:
        assert folder == tmp_path / "Deer/img"
    record = copies(item, tmp_path / "out")
    assert record["series"] == {"1": [None, pytest.approx(2 / 14), 0]}
    assert record["scores"]["Precision@20"] == 0.5  # 2.2 and 21.8 px off


def test_each_object_of_otb_is_a_sequence(tmp_path):
    add_otb(tmp_path, "Jogging", "1,1,4,2", "1,1,4,2", file="groundtruth_rect.1.txt")
    add_otb(tmp_path, "Jogging", "5,5,4,2", "6,5,4,2", file="groundtruth_rect.2.txt")
    add_otb(tmp_path, "Human4", "5,5,4,2", "6,5,4,2", file="groundtruth_rect.2.txt")
    (tmp_path / "Human4/groundtruth_rect.1.txt").write_text("\n")  # as it is published
    items = find_boxes(tmp_path).items
    assert [item.name for item in items] == ["Human4.2", "Jogging.1", "Jogging.2"]
    assert [item.truth(0).xyxy[0, 0] for item in items] == [4, 0, 4]
    assert items[1].fingerprint() != items[2].fingerprint()


def test_frames_of_otb_that_start_later_and_without_boxes(tmp_path):
    nowhere = ("0,0,0,0", "NaN,NaN,NaN,NaN", "5,5,0,2", "5,5,4,0")
    add_otb(tmp_path, "BlurCar1", "1,1,4,2", *nowhere, "3,1,4,2", first=247)
    (item,) = find_boxes(tmp_path).items
    assert [n for n in range(6) if item.truth(n)] == [0, 5]
    record = copies(item, tmp_path / "out")
    assert record["detail"]["boxes"] == 1
    assert record["series"]["1"] == [*[None] * 5, pytest.approx(4 / 12)]


def test_a_part_of_the_pictures_of_otb(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "david", (3, 5))
    add_otb(tmp_path, "David", "1,1,4,2", "2,1,4,2", "3,1,4,2", frames=7)
    (item,) = find_boxes(tmp_path).items
    (run,) = item.runs()
    assert (item.frames, run.start, run.end, list(run.annotations)) == (7, 2, 5, [2])
    assert [item.truth(n) is not None for n in range(7)] == [False, False, True, True, True, False, False]
    assert copies(item, tmp_path / "out")["detail"]["boxes"] == 2
    add_otb(tmp_path, "David", "1,1,4,2", "2,1,4,2", frames=7)
    with pytest.raises(InputError, match=r"David/groundtruth_rect\.txt has 2 boxes, but .*img has 7 frames"):
        find_boxes(tmp_path)


def test_the_parts_are_those_of_the_set():
    assert {name: last - first + 1 for name, (first, last) in PARTS.items()} == {
        "david": 471,
        "diving": 215,
        "football1": 74,
        "freeman3": 460,
        "freeman4": 283,
    }


def test_one_sequence_of_otb_and_frames_elsewhere(tmp_path):
    add_otb(tmp_path / "otb", "Deer", "1,1,4,2", "1,1,4,2")
    assert [item.name for item in find_boxes(tmp_path / "otb/Deer").items] == ["Deer"]
    (tmp_path / "frames").mkdir()
    (tmp_path / "otb/Deer/img").rename(tmp_path / "frames/Deer")
    with pytest.raises(InputError, match="Deer/img has no pictures"):
        find_boxes(tmp_path / "otb")
    with find_boxes(tmp_path / "otb", frames=tmp_path / "frames").items[0].video() as folder:
        assert folder == tmp_path / "frames/Deer"


@pytest.mark.parametrize("folder", ["color", ""])
def test_boxes_of_vot(tmp_path, folder):
    add_vot(
        tmp_path, "ball", "0,4,2,2,4,0,2,2", "10,10,4,2", "nan,nan,nan,nan", "0", "12,14,4,2", folder=folder
    )
    add_vot(tmp_path, "cat", "1,1,4,2", "1,1,4,2", folder=folder)
    task = find_boxes(tmp_path)
    assert task.protocol["layout"] == "vot"
    assert [item.name for item in task.items] == ["ball", "cat"]
    ball = task.items[0]
    assert [ball.truth(n).xyxy[0].tolist() for n in (0, 1, 4)] == [
        [0, 0, 4, 4],
        [10, 10, 14, 12],
        [12, 14, 16, 16],
    ]
    assert (ball.truth(2), ball.truth(3), ball.frames) == (None, None, 5)
    (tmp_path / "list.txt").write_text("cat\nball\n")
    assert [item.name for item in find_boxes(tmp_path).items] == ["cat", "ball"]
    assert [item.name for item in find_boxes(tmp_path / "cat").items] == ["cat"]


OTB = ("1,1,4,2", "1,1,4,2", "1,1,4,2")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (OTB[:2], r"groundtruth_rect\.txt has 2 boxes, but .*img has 3 frames: each needs a line"),
        (("1,1,4", *OTB[1:]), "line 1 has 3 values: a box is x, y, width, height"),
        ((*OTB[:2], "1,1,four,2"), "line 3: a coordinate is 'four'"),
        (("1,1,4,2", "0,0,0,0", "0,0,0,0"), "has boxes in fewer than two frames"),
    ],
)
def test_damaged_boxes_of_otb(tmp_path, lines, message):
    add_otb(tmp_path, "Deer", *lines, frames=3)
    with pytest.raises(InputError, match=message):
        find_boxes(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("1,1,4,2", "1,1,4,2,5"), "line 2 has 5 values: a box is x, y, width, height, or the x, y of four"),
        (("1,1,4,2", "m1,2,3,4,5"), "line 2 is a mask"),
        (("1,1,4,2", "7"), "line 2 has 1 values"),
    ],
)
def test_damaged_boxes_of_vot(tmp_path, lines, message):
    add_vot(tmp_path, "ball", *lines)
    with pytest.raises(InputError, match=message):
        find_boxes(tmp_path)


def test_wrong_layouts(tmp_path):
    otb, vot = tmp_path / "otb", tmp_path / "vot"
    add_otb(otb, "Deer", *OTB)
    draw_frames(otb / "Car/img", 2)
    with pytest.raises(InputError, match=r"Car/groundtruth_rect\.txt is missing"):
        find_boxes(otb)
    (otb / "Car/groundtruth_rect.txt").write_text("")
    with pytest.raises(InputError, match=r"Car/groundtruth_rect\.txt is empty"):  # not left out in silence
        find_boxes(otb)
    add_vot(vot, "ball", *OTB)
    draw_frames(vot / "cat/color", 2)
    with pytest.raises(InputError, match=r"cat/groundtruth\.txt is missing"):
        find_boxes(vot)
    (vot / "cat/groundtruth.txt").write_text("")
    with pytest.raises(InputError, match=r"cat/groundtruth\.txt is empty"):
        find_boxes(vot)
    for names, message in (
        ("ball\ndog\n", "vot/dog is missing: .*list.txt names"),
        ("ball\nball\n", "names ball twice"),
        ("\n", "names no sequence"),
    ):
        (vot / "list.txt").write_text(names)
        with pytest.raises(InputError, match=message):
            find_boxes(vot)
    (vot / "ball/color").rename(vot / "ball/colour")
    (vot / "list.txt").write_text("ball\n")
    with pytest.raises(InputError, match="ball/color has no pictures"):
        find_boxes(vot)
    add_otb(vot, "Deer", *OTB)
    with pytest.raises(InputError, match=r"sequences of OTB .* and of VOT"):
        find_boxes(vot)


def test_sequences_without_boxes(tmp_path):
    add_otb(tmp_path, "Deer", *OTB)
    (tmp_path / "Deer/groundtruth_rect.txt").write_text("")
    with pytest.raises(InputError, match=r"rect\.txt is empty"):
        find_boxes(tmp_path)


CELLS = st.sampled_from(["0", "1", "7.5", "-3", "nan", "", "m1", "x", "1e30", "inf", "\u00fc", "\x00"])
LINES = st.lists(st.lists(CELLS, max_size=9).map(",".join), max_size=4).map("\n".join)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    draw_frames(root / "vot/ball", 3)
    draw_frames(root / "otb/Deer/img", 3)
    return root


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=40), LINES.map(str.encode)), LINES)
def test_any_file_of_boxes_is_read_or_refused(damaged, content, names):
    (damaged / "otb/Deer/groundtruth_rect.txt").write_bytes(content)
    (damaged / "vot/ball/groundtruth.txt").write_bytes(content)
    for list_of_names in ("ball", names):
        (damaged / "vot/list.txt").write_text(list_of_names, encoding="utf-8")
        for root in (damaged / "vot", damaged / "otb"):
            try:
                task = find_boxes(root)
            except InputError:
                continue
            assert all(item.boxes.scored.any() for item in task.items)

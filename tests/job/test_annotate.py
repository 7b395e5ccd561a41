"""Which option belongs to which frame, and which kind of label."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.job import LabelOptions, read_annotations
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.labels.rlejson import RleJsonWriter
from vidtrack.video import save_png

from .conftest import masks

SIZE = (48, 64)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    masks(0).save(tmp_path / "m.png")
    shutil.copy("m.png", "4=m.png")
    (tmp_path / "all").mkdir()
    for name in ("0.png", "0007.png", "00012.png", ".DS_Store"):
        shutil.copy("m.png", tmp_path / "all" / name)
    Masks(np.zeros(SIZE, np.uint8)).save("empty.png")
    np.save("a.npy", np.zeros(SIZE, np.float32))
    np.save("b.npy", np.zeros((*SIZE, 2), np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "start", "end", "frames"),
    [
        (["m.png"], 3, None, [3]),
        (["m.png", "9=m.png"], 3, None, [3, 9]),
        (["9=m.png", "08=m.png"], 0, None, [8, 9]),
        (["4=m.png"], 0, None, [0]),  # there is a file of this name
        (["all"], 0, None, [0, 7, 12]),
        (["all", "3=m.png"], 3, 12, [3, 7]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_frames_of_masks(texts: list[str], start: int, end: int | None, frames: list[int]) -> None:
    given = read_annotations(LabelOptions(mask=tuple(texts)), SIZE, start, end)
    assert list(given.labels) == frames and given.kind is Masks
    assert set(given.files) == set(frames)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mask": ("m.png", "m.png")}, "for frame 0: say for which"),
        ({"mask": ("all", "7=m.png")}, "for frame 7"),
        ({"mask": ("3=",)}, "3="),
        ({"mask": ("IMG=m.png",)}, "--mask IMG=m.png is no file, and IMG no frame: give the frame's number"),
        ({"mask": ("m.png", "nowhere.png")}, "nowhere.png doesn't exist"),
        ({"mask": ("all",), "box": ("1,2,3,4",)}, "not --mask and --box"),
        ({"array": ("a.npy", "3=b.npy")}, "different numbers of channels"),
        ({"point": ("nan,3",)}, "not x,y"),
        ({"box": ("1,2,3",)}, "not x1,y1,x2,y2"),
        ({"point": ("1,2", "3,4", "5=6,7")}, "2 in frame 0, 1 in frame 5: give all points in each"),
        ({"point": ("x=6,7",)}, "not x,y"),
        ({"box": ("70,2,80,9",)}, "outside of the frame"),
        ({"box": ("0.1,0.2,0.5,0.9",)}, "give pixels, not shares of the 64 x 48"),
        ({"mask": ("empty.png",)}, "has no object"),
        ({"mask": ("empty.png", "4=empty.png")}, "the masks have no object"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_mistakes(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_annotations(LabelOptions(**options), SIZE)


@pytest.fixture
def pictures(folder: Path) -> Path:
    """Frames that count from 1, and a folder of masks."""
    for name in ("1.png", "2.png", "3.png", "12.png"):
        save_png(folder / "frames" / name, np.zeros((*SIZE, 3), np.uint8))
    return folder / "frames"


def placed(folder: Path, *names: str) -> str:
    shutil.rmtree(folder / "some", ignore_errors=True)
    (folder / "some").mkdir()
    for name in names:
        shutil.copy(folder / "m.png", folder / "some" / name)
    return "some"


@pytest.mark.parametrize(
    ("names", "frames", "told"),
    [
        (("2.png", "12.png"), [1, 3], "2.png was taken for the picture of that name, which is frame 1"),
        (("00000.png", "00002.png"), [0, 2], None),  # no picture has such a name: numbers
    ],
)
def test_masks_named_like_pictures_are_theirs(
    folder: Path, pictures: Path, names: tuple[str, ...], frames: list[int], told: str | None
) -> None:
    given = read_annotations(LabelOptions(mask=(placed(folder, *names),)), SIZE, video=pictures)
    assert list(given.labels) == frames
    assert len(given.warnings) == (told is not None) and (told is None or told in given.warnings[0])


def test_masks_of_named_pictures(folder: Path) -> None:
    for name in ("img_6.png", "img_10.png"):
        save_png(folder / "named" / name, np.zeros((*SIZE, 3), np.uint8))
    given = read_annotations(LabelOptions(mask=(placed(folder, "img_10.png"),)), SIZE, video=folder / "named")
    assert list(given.labels) == [1] and not given.warnings
    with pytest.raises(InputError, match=r"7\.png is not named like a picture of the video, such as img_6"):
        read_annotations(
            LabelOptions(mask=(placed(folder, "img_10.png", "7.png"),)), SIZE, video=folder / "named"
        )


@pytest.mark.parametrize("frame", ["img_10", "img_10.png", "1"])
def test_a_frame_may_be_told_by_its_picture(frame: str, folder: Path) -> None:
    for name in ("img_6.png", "img_10.png"):
        save_png(folder / "named" / name, np.zeros((*SIZE, 3), np.uint8))
    given = read_annotations(LabelOptions(mask=(f"{frame}=m.png",)), SIZE, video=folder / "named")
    assert list(given.labels) == [1]


def test_a_number_that_is_a_picture_of_another_frame(folder: Path, pictures: Path) -> None:
    shutil.copy(pictures / "12.png", pictures / "0002.png")  # after 1.png
    given = read_annotations(LabelOptions(mask=("0002=m.png",)), SIZE, video=pictures)
    assert list(given.labels) == [2]
    assert "0002 is that of frame 1: give --mask 1=m.png" in given.warnings[0]
    for texts in (("2=m.png",), ("0002.png=m.png", "2=m.png")):
        given = read_annotations(LabelOptions(mask=texts), SIZE, video=pictures)
        assert sorted(given.labels) == [1, 2][-len(texts) :] and not given.warnings


def test_a_picture_whose_name_holds_the_sign(folder: Path) -> None:
    save_png(folder / "named" / "t=0.5.png", np.zeros((*SIZE, 3), np.uint8))
    save_png(folder / "named" / "t=1.png", np.zeros((*SIZE, 3), np.uint8))
    given = read_annotations(LabelOptions(mask=("t=1=m.png",)), SIZE, video=folder / "named")
    assert list(given.labels) == [1]


def test_a_mask_named_like_a_later_picture(folder: Path, pictures: Path) -> None:
    placed(folder, "12.png")
    given = read_annotations(LabelOptions(mask=("some/12.png",)), SIZE, video=pictures)
    assert list(given.labels) == [0] and "of frame 3, and was taken for frame 0" in given.warnings[0]
    assert not read_annotations(LabelOptions(mask=("3=some/12.png",)), SIZE, video=pictures).warnings


def test_a_mask_among_the_pictures_is_no_mask(folder: Path, pictures: Path) -> None:
    shutil.copy(folder / "m.png", pictures / "first.png")
    with pytest.raises(InputError, match=r"first\.png is one of the pictures in .*frames"):
        read_annotations(LabelOptions(mask=("frames/first.png",)), SIZE, video=pictures)
    with pytest.raises(InputError, match="is one of the pictures"):
        read_annotations(LabelOptions(mask=("0=frames/first.png",)), SIZE, video=pictures)


def test_colours_agree_and_objects_that_end_are_told(folder: Path) -> None:
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[:9, :9], picture[20:30, :9] = (255, 0, 0), (0, 0, 255)
    save_png(folder / "both.png", picture)
    picture[:9] = 0
    save_png(folder / "blue.png", picture)
    given = read_annotations(LabelOptions(mask=("both.png", "7=blue.png")), SIZE)
    assert given.labels[0].objects == [1, 2] and given.labels[7].objects == [2]
    assert "frame 7 leaves out object 1:" in given.warnings[0]


def test_a_mask_that_is_inside_out_is_told(folder: Path) -> None:
    ids = masks(0).ids
    Masks((ids == 0).astype(np.uint8)).save(folder / "inverted.png")
    Masks((ids > 0).astype(np.uint8)).save(folder / "one.png")
    (told,) = read_annotations(LabelOptions(mask=("one.png", "7=inverted.png")), SIZE).warnings
    assert "inverted.png: object 1 fills" in told and "invert the mask" in told
    Masks(np.ones(SIZE, np.uint8)).save(folder / "whole.png")
    (told,) = read_annotations(LabelOptions(mask=("whole.png",)), SIZE).warnings
    assert "fills 100% of the frame" in told and "mark what is to be followed only" in told
    large = np.ones(SIZE, np.uint8)
    large[:, :6] = 0
    Masks(large).save(folder / "large.png")
    assert not read_annotations(LabelOptions(mask=("large.png",)), SIZE).warnings
    red_on_green = np.where(ids[..., None] > 0, [255, 0, 0], [0, 255, 0]).astype(np.uint8)
    save_png(folder / "green.png", red_on_green)
    (told,) = read_annotations(LabelOptions(mask=("green.png",)), SIZE).warnings
    assert "green.png: object 1 fills" in told and "make it black or transparent" in told


def test_a_mask_may_say_that_nothing_is_there(folder: Path) -> None:
    given = read_annotations(LabelOptions(mask=("m.png", "5=empty.png")), SIZE)
    assert given.labels[0].objects and not given.labels[5].objects and not given.warnings


def film(images: list[dict[str, Any]], annotated: list[int]) -> dict[str, Any]:
    """A COCO data set in which the images of some ids have a square as object 3."""
    square = [[8, 8, 24, 8, 24, 24, 8, 24]]
    shared = {"height": SIZE[0], "width": SIZE[1]}
    return {
        "images": [shared | image for image in images],
        "annotations": [{"image_id": i, "segmentation": square, "track_id": 3} for i in annotated],
    }


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        ([{"frame_index": 4, "file_name": "9.png"}, {"frame_index": 0}, {"frame_index": 7}], [4, 7]),
        ([{"frame_id": 4}, {"frame_id": 0}, {"frame_id": 7}], [4, 7]),
        ([{"file_name": f"a/frame_{n:06d}.PNG"} for n in (4, 0, 7)], [4, 7]),
        ([{"file_name": name} for name in ("12.jpg", "1.jpg", "2.jpg")], [1, 3]),  # pictures of these names
    ],
)
def test_a_data_set_of_several_frames(
    folder: Path, pictures: Path, names: list[dict[str, Any]], frames: list[int]
) -> None:
    images = [{"id": 10 + i} | name for i, name in enumerate(names)]
    (folder / "film.json").write_text(json.dumps(film(images, [10, 12])))
    given = read_annotations(LabelOptions(mask=("film.json",)), SIZE, video=pictures)
    assert list(given.labels) == frames and set(given.files.values()) == {"film.json"}
    assert all(masks.objects == [3] for masks in given.labels.values())
    same = read_annotations(LabelOptions(mask=("./film.json",)), SIZE, video=pictures)
    assert list(same.labels) == frames
    one = read_annotations(LabelOptions(mask=(f"{frames[1]}=film.json", "m.png")), SIZE, video=pictures)
    assert list(one.labels) == [0, frames[1]]
    both = tuple(f"{number}=film.json" for number in frames)
    assert list(read_annotations(LabelOptions(mask=both), SIZE, video=pictures).labels) == frames
    part = read_annotations(LabelOptions(mask=("film.json",)), SIZE, frames[0] + 1, video=pictures)
    assert list(part.labels) == frames[1:]


@pytest.mark.parametrize(
    ("images", "masks", "sentence"),
    [
        ([{"id": 1, "frame_index": 2}, {"id": 2, "frame_index": 2}], ("film.json",), "two images of frame 2"),
        ([{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}], ("film.json",), "'a.png' of no"),
        ([{"id": 1, "frame_index": -1}, {"id": 2, "frame_index": 2}], ("film.json",), "of no frame"),
        ([{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "5.png"}], ("3=film.json",), "of frame 3"),
        (
            [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "5.png"}],
            ("film.json", "5=m.png"),
            "both",
        ),
    ],
)
def test_data_sets_that_fit_no_frames(
    folder: Path, images: list[dict[str, Any]], masks: tuple[str, ...], sentence: str
) -> None:
    (folder / "film.json").write_text(json.dumps(film(images, [1, 2])))
    with pytest.raises(InputError, match=sentence):
        read_annotations(LabelOptions(mask=masks), SIZE)


@pytest.mark.parametrize("listed", [5, {"a": 1}, None, [3]])
def test_damaged_data_sets_are_one_sentence(folder: Path, listed: Any) -> None:
    data = film([{"id": 1, "frame_index": 1}, {"id": 2, "frame_index": 2}], []) | {"annotations": listed}
    (folder / "film.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"film\.json"):
        read_annotations(LabelOptions(mask=("film.json",)), SIZE)


def test_what_a_run_wrote_can_be_given_again(folder: Path) -> None:
    with RleJsonWriter("film.json", SIZE) as writer:
        for index in (3, 4, 5):
            writer.write(index, f"{index:05d}", masks(index))
    given = read_annotations(LabelOptions(mask=("film.json",)), SIZE)
    assert list(given.labels) == [3, 4, 5]
    assert all(np.array_equal(value.ids, masks(n).ids) for n, value in given.labels.items())


def test_a_stray_file_among_masks(folder: Path) -> None:
    (folder / "all" / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"notes.txt is not named by a frame number"):
        read_annotations(LabelOptions(mask=("all",)), SIZE)


@pytest.mark.usefixtures("folder")
def test_points_that_a_later_frame_leaves_out_are_told() -> None:
    """An annotation says all about its frame: who corrects one point must say where the others are."""
    rows = ["frame,keypoint,x,y", *(f"1,{name},2,3" for name in "abcdef"), "4,a,2,3"]
    Path("k.csv").write_text("\n".join([*rows, "9,a,5,5", "9,b,6,6"]))
    (told,) = read_annotations(LabelOptions(keypoints=Path("k.csv")), SIZE).warnings
    assert "frame 4 has no place for b, c, d and 2 more (later ones leave out points, too)" in told
    Path("k.csv").write_text("\n".join(rows[:-1]))
    assert not read_annotations(LabelOptions(keypoints=Path("k.csv")), SIZE).warnings
    Path("k.csv").write_text("frame,instance,keypoint,x,y\n0,0,a,1,1\n0,1,a,2,2\n3,0,a,1,1\n3,1,a,,\n")
    (told,) = read_annotations(LabelOptions(keypoints=Path("k.csv")), SIZE).warnings
    assert "frame 3 has no place for a of 1: an" in told


@pytest.mark.usefixtures("folder")
def test_numbers_and_files_of_other_kinds() -> None:
    points = read_annotations(LabelOptions(point=("3.5,4", "63.5,-0.5")), SIZE, 2).labels[2]
    assert points.xy.tolist() == [[[3.5, 4.0], [63.5, -0.5]]] and points.visible.all()
    later = read_annotations(LabelOptions(point=("7=1,2", "3,4", "7=5,6", "8,9")), SIZE, 2)
    assert {n: value.xy[0].tolist() for n, value in later.labels.items()} == {
        2: [[3, 4], [8, 9]],
        7: [[1, 2], [5, 6]],
    }
    assert later.files == {2: "3,4 8,9", 7: "1,2 5,6"}
    found = read_annotations(LabelOptions(box=("9=1,1,5,5", "2,2,6,6", "3,3,7,7")), SIZE).labels
    assert {n: (value.ids, value.xyxy[0, 0]) for n, value in found.items()} == {0: ((1, 2), 2), 9: ((1,), 1)}
    boxes = read_annotations(LabelOptions(box=("-3,2,30.5,9", "1,1,2,2")), SIZE).labels[0]
    assert boxes.ids == (1, 2) and boxes.xyxy[0].tolist() == [-3, 2, 30.5, 9]
    arrays = read_annotations(LabelOptions(array=("a.npy", "5=a.npy")), SIZE)
    assert list(arrays.labels) == [0, 5] and arrays.kind is Maps
    Path("k.csv").write_text("frame,keypoint,x,y\n1,a,2,3\n2,a,,\n7,a,4,5\n")
    given = read_annotations(LabelOptions(keypoints=Path("k.csv")), SIZE)
    assert list(given.labels) == [1, 7] and given.kind is Keypoints and not given.warnings
    given = read_annotations(LabelOptions(keypoints=Path("k.csv")), SIZE, 2)
    assert list(given.labels) == [7] and "1 annotated frame outside" in given.warnings[0]
    with pytest.raises(InputError, match="annotates frames 1 to 7, none of which"):
        read_annotations(LabelOptions(keypoints=Path("k.csv")), SIZE, 8)
    Path("b.csv").write_text("frame,x1,y1,x2,y2\n3,1,2,9,9\n4,,,,\n")
    assert list(read_annotations(LabelOptions(boxes=Path("b.csv")), SIZE).labels) == [3]
    assert read_annotations(LabelOptions(boxes=Path("b.csv")), SIZE).kind is Boxes

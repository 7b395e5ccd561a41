"""Which frame a file of keypoints is about, and places that can't be in the video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.job import LabelOptions, read_annotations
from vidtrack.labels import Boxes, Keypoints
from vidtrack.labels.cocokeypoints import write_coco
from vidtrack.labels.keypointfiles import write_csv
from vidtrack.video import save_png

SIZE = (48, 64)
POINTS = Keypoints.from_points([(5, 6), (30, 20)], ["nose", "tail"])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A video that is the pictures img011.png to img015.png, the frames 0 to 4."""
    (tmp_path / "video").mkdir()
    for number in range(11, 16):
        save_png(tmp_path / "video" / f"img{number:03d}.png", np.zeros((*SIZE, 3), np.uint8))
    return tmp_path / "video"


def coco(path: Path, names: list[str], frame_key: str | None = None) -> Path:
    write_coco(path, [(n, name, POINTS) for n, name in enumerate(names)], SIZE)
    data: dict[str, Any] = json.loads(path.read_text())
    for number, image in enumerate(data["images"]):
        del image["frame_index"]
        if frame_key:
            image[frame_key] = 2 * number
    path.write_text(json.dumps(data))
    return path


def deeplabcut(path: Path, names: list[str]) -> Path:
    rows = ["scorer,me,me,me,me", "bodyparts,nose,nose,tail,tail", "coords,x,y,x,y"]
    path.write_text("\n".join([*rows, *(f"labeled-data/v/{name},5,6,30,20" for name in names)]))
    return path


@pytest.mark.parametrize("write", [coco, deeplabcut])
@pytest.mark.parametrize(
    ("names", "folder", "film"),
    [
        (["img011.png", "img013.png"], [0, 2], [11, 13]),
        (["img014.png"], [3], [14]),
        (["00002.jpg", "00004.jpg"], [2, 4], [2, 4]),  # not named like the pictures: frame numbers
    ],
)
def test_pictures_of_a_folder_are_meant_by_their_names(
    tmp_path: Path, pictures: Path, write: Any, names: list[str], folder: list[int], film: list[int]
) -> None:
    options = LabelOptions(keypoints=write(tmp_path / "k", names))
    assert list(read_annotations(options, SIZE, video=pictures).labels) == folder
    assert list(read_annotations(options, SIZE, video=tmp_path / "v.mp4").labels) == film


def test_frame_ids_of_coco(tmp_path: Path, pictures: Path) -> None:
    options = LabelOptions(keypoints=coco(tmp_path / "k.json", ["img011.png", "img012.png"], "frame_id"))
    assert list(read_annotations(options, SIZE, video=pictures).labels) == [0, 2]


def test_a_single_image_of_coco_masks_is_the_picture_of_its_name(tmp_path: Path, pictures: Path) -> None:
    item = {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}
    image = {"id": 7, "file_name": "img013.png", "height": SIZE[0], "width": SIZE[1]}
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"images": [image], "annotations": [item], "categories": []}))

    def frames(text: str, video: Path) -> list[int]:
        return list(read_annotations(LabelOptions(mask=(text,)), SIZE, video=video).labels)

    assert frames(str(path), pictures) == [2]
    assert frames(f"1={path}", pictures) == [1]  # as the user says
    assert frames(str(path), tmp_path / "v.mp4") == [0]


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([(5, 6), (70, 20)], "1 of 2 places lie outside of the video's 64 x 48 pixels"),
        ([(-5, 6), (30, 48)], None),
        ([(900, 900), (99, 2)], None),
        ([(0.25, 0.5), (0.75, 1.0)], "not shares of 64 x 48"),
        ([(-0.5, -0.5), (63.5, 47.5)], ""),
    ],
)
def test_places_outside_of_the_video(tmp_path: Path, points: list[Any], sentence: str | None) -> None:
    write_csv(tmp_path / "k.csv", [(0, "", Keypoints.from_points(points, ["nose", "tail"]))])
    options = LabelOptions(keypoints=tmp_path / "k.csv")
    if sentence is None or "shares" in sentence:
        with pytest.raises(InputError, match=sentence or "no place inside of the video's 64 x 48 pixels"):
            read_annotations(options, SIZE)
        return
    told = read_annotations(options, SIZE).warnings
    assert [sentence in line for line in told] == [True] * bool(sentence)


@pytest.mark.parametrize(
    ("rows", "outside"), [(["3,4,70,80"], 0), (["3,4,9,9", "64.5,4,70,9"], 1), (["65,4,70,9"], None)]
)
def test_boxes_outside_of_the_video(tmp_path: Path, rows: list[str], outside: int | None) -> None:
    lines = [f"{n},{n},{row}" for n, row in enumerate(rows, 1)]
    (tmp_path / "b.csv").write_text("\n".join(["frame,id,x1,y1,x2,y2", *lines]))
    options = LabelOptions(boxes=tmp_path / "b.csv")
    assert Boxes.load(tmp_path / "b.csv")
    if outside is None:
        with pytest.raises(InputError, match="no place inside"):
            read_annotations(options, SIZE)
        return
    told = [line for line in read_annotations(options, SIZE).warnings if "lie outside" in line]
    assert len(told) == outside


def test_coco_of_another_size(tmp_path: Path) -> None:
    options = LabelOptions(keypoints=coco(tmp_path / "k.json", ["0.png"]))
    with pytest.raises(InputError, match="64 x 48 pixels, and the video has 32 x 24"):
        read_annotations(options, (24, 32))

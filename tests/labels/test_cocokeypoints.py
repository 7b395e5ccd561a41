"""COCO keypoints JSON: literal files, frame numbers, instances, round trips, pycocotools, garbage."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from pretrain.errors import InputError
from vidtrack.labels import Keypoints
from vidtrack.labels.cocokeypoints import parse_coco_keypoints, write_coco

NAN = float("nan")


def data_set() -> dict[str, Any]:
    return {
        "images": [
            {"id": 9, "file_name": "frames/img_0100.jpg", "height": 10, "width": 20},
            {"id": 4, "file_name": "frames/img_0020.jpg", "height": 10, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 3, "keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0]},
            {
                "id": 2,
                "image_id": 9,
                "category_id": 3,
                "keypoints": [5, 6, 2, 0, 0, 0, 0, 0, 0],
                "score": 0.5,
            },
            {"id": 3, "image_id": 4, "category_id": 3, "keypoints": [7, 8, 2, 0, 0, 0, 0, 0, 0]},
            {"id": 4, "image_id": 4, "category_id": 5, "bbox": [0, 0, 1, 1]},  # no keypoints: not ours
        ],
        "categories": [
            {"id": 3, "name": "mouse", "keypoints": ["nose", "ear", "tail"], "skeleton": [[1, 2], [2, 3]]},
            {"id": 5, "name": "box"},
            {"id": 6, "name": "unused", "keypoints": ["x"]},
        ],
    }


def test_a_literal_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n " + json.dumps(data_set()))
    frames = Keypoints.load(tmp_path / "a.txt")
    assert list(frames) == [20, 100]  # img_0020 and img_0100
    first, second = frames[20], frames[100]
    assert first.names == ("nose", "ear", "tail") and first.instances == ("0", "1")
    assert first.skeleton == ((0, 1), (1, 2))
    np.testing.assert_array_equal(
        second.xy, [[[1, 2], [3.5, 4], [NAN, NAN]], [[5, 6], [NAN, NAN], [NAN, NAN]]]
    )
    assert second.visible.tolist() == [[True, False, False], [True, False, False]]
    assert second.confidence.tolist() == [[1, 1, 0], [0.5, 0, 0]]
    np.testing.assert_array_equal(first.xy[0, 0], [7, 8])
    assert first.labelled.sum() == 1


@pytest.mark.parametrize(
    ("images", "frames"),
    [
        ([("a", "img9.png"), ("b", "img10.png")], {"a": 9, "b": 10}),  # the number in the name
        ([("2", "x.png"), ("10", "y.png"), ("1", "z.png")], {"1": 0, "2": 1, "10": 2}),  # no numbers: ids
        ([(3, "a1.png"), (2, "b1.png")], {"2": 0, "3": 1}),  # the same number: ids
        ([(3, "7.png", 12), (2, "9.png", 5)], {"2": 5, "3": 12}),  # frame_index
        ([(3, "7.png", 12), (2, "9.png")], {"3": 7, "2": 9}),  # not all have one
    ],
)
def test_frame_numbers(images: list, frames: dict) -> None:
    data = data_set()
    data["images"] = [
        {"id": i, "file_name": name, **({"frame_index": rest[0]} if rest else {})}
        for i, name, *rest in images
    ]
    data["annotations"] = [
        {"image_id": image[0], "category_id": 3, "keypoints": [n, n, 2] + [0] * 6}
        for n, image in enumerate(images)
    ]
    loaded = parse_coco_keypoints(data, "f")
    found = {str(images[int(k.xy[0, 0, 0])][0]): frame for frame, k in loaded.items()}
    assert found == frames


def test_instances_keep_their_track() -> None:
    data = data_set()
    for item, track in zip(data["annotations"], (5, 2, 2, 0), strict=True):
        item["attributes"] = {"track_id": track}
    frames = parse_coco_keypoints(data, "f")
    assert frames[100].instances == ("5", "2")
    np.testing.assert_array_equal(frames[20].xy[:, 0], [[NAN, NAN], [7, 8]])
    del data["annotations"][0]["attributes"]  # one without: counted in each image
    assert parse_coco_keypoints(data, "f")[20].instances == ("0", "1")


def test_images_without_keypoints_count_but_are_no_annotations() -> None:
    data = data_set()
    data["annotations"] = data["annotations"][:1]
    for image, name in zip(data["images"], ("b", "a"), strict=True):
        image["file_name"] = name
    count = sorted(image["id"] for image in data["images"]).index(data["annotations"][0]["image_id"])
    assert list(parse_coco_keypoints(data, "f")) == [count] and count == 1


def test_images_are_the_pictures_of_their_names() -> None:
    data = data_set()
    pictures = {"img_0020": 4, "img_0040": 5, "img_0100": 6}
    assert list(parse_coco_keypoints(data, "f", pictures)) == [4, 6]
    assert list(parse_coco_keypoints(data, "f", {"b": 0, "a": 1})) == [0, 1]  # as many: in their order
    assert list(parse_coco_keypoints(data, "f", {"a": 0})) == [20, 100]  # others: the number in the name
    with pytest.raises(InputError, match="no picture of the video"):
        parse_coco_keypoints(data, "f", {"img_0020": 4})
    more = {"id": 11, "file_name": "img_0300.jpg"}  # nothing is labelled there
    listed = data | {"images": [*data["images"], more]}
    assert list(parse_coco_keypoints(listed, "f", pictures)) == [4, 6]
    data["images"][1]["file_name"] = data["images"][0]["file_name"]
    with pytest.raises(InputError, match="two images of the same name"):
        parse_coco_keypoints(data, "f", pictures)
    for image, number in zip(data["images"], (8, 3), strict=True):
        image["frame_id"] = number
    assert list(parse_coco_keypoints(data, "f", pictures)) == [3, 8]


def test_images_of_another_size_are_refused() -> None:
    data = data_set()
    for image in data["images"]:
        image |= {"width": 64, "height": 48}
    assert parse_coco_keypoints(data, "f", size=(48, 64))
    with pytest.raises(InputError, match="64 x 48 pixels, and the video has 32 x 24"):
        parse_coco_keypoints(data, "f", size=(24, 32))


def test_names_left_out() -> None:
    data = data_set()
    del data["categories"]
    assert parse_coco_keypoints(data, "f")[20].names == ("point0", "point1", "point2")


def change(data: dict, path: str, value: Any) -> None:
    *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    for key in keys:
        data = data[key]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("images", 3, "images that aren't a list"),
        ("annotations", [4], "annotations that aren't a list"),
        ("annotations", [], "no annotation with keypoints"),
        ("annotations.0.image_id", 77, "annotation 1 belongs to an image that isn't"),
        ("annotations.1.keypoints", [1, 2, 2], "annotation 2 has 3 values for 3 keypoints"),
        ("annotations.1.keypoints", None, "annotation 2 has no values"),
        ("annotations.1.keypoints.0", "x", "annotation 2 has keypoints that aren't numbers"),
        ("annotations.1.keypoints.0", 1e30, "annotation 2 has keypoints that aren't numbers"),
        ("annotations.1.keypoints.0", True, "annotation 2 has keypoints that aren't numbers"),
        ("annotations.1.keypoints.2", 3, "v 0, 1 or 2"),
        ("annotations.1.score", 7, "score that isn't a number from 0 to 1"),
        ("annotations.1.scores", [1], "not one for each keypoint"),
        ("images.1.id", 9, "two images of the same id"),
        ("categories.0.keypoints", ["a", "a", "b"], "two keypoints of the same name"),
        ("categories.0.skeleton", [[0, 1]], "skeleton"),
        ("categories.0.skeleton", [[1, 4]], "skeleton"),
        ("categories.1", {"id": 5, "keypoints": ["x"]}, None),  # nobody uses it for keypoints
        ("annotations.0.category_id", 6, "several kinds of keypoints"),
    ],
)
def test_damage_is_named(path: str, value: Any, message: str | None) -> None:
    data = data_set()
    change(data, path, value)
    if message is None:
        assert parse_coco_keypoints(data, "f")
        return
    with pytest.raises(InputError, match=message):
        parse_coco_keypoints(data, "f")


@pytest.mark.parametrize("data", [[], [1], 3, {"shapes": []}, {"images": []}])
def test_other_json(tmp_path: Path, data: Any) -> None:
    with pytest.raises(InputError, match="COCO keypoints JSON"):
        parse_coco_keypoints(data, "f")


def video(seed: int) -> list[tuple[int, str, Keypoints]]:
    random = np.random.default_rng(seed)
    frames = []
    for index in (3, 4, 70):
        xy = random.uniform(0, 100, (2, 3, 2)).astype(np.float32)
        xy[random.random((2, 3)) < 0.3] = NAN
        confidence = random.random((2, 3)).astype(np.float32)
        visible = random.random((2, 3)) < 0.5
        names = ("a", "b", "ü")
        frames.append(
            (index, f"{index:05d}", Keypoints(xy, visible, confidence, names, ("m1", "m2"), ((0, 2),)))
        )
    frames[1][2].xy[1] = NAN  # all of an instance lost
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_written_file_reads_back(tmp_path: Path, seed: int) -> None:
    frames = video(seed)
    write_coco(tmp_path / "a.json", iter(frames), (50, 100))
    loaded = Keypoints.load(tmp_path / "a.json")
    assert list(loaded) == [3, 4, 70]
    for index, _, keypoints in frames:
        again = loaded[index]
        assert (again.names, again.instances) == (keypoints.names, keypoints.instances)
        assert again.skeleton == keypoints.skeleton
        np.testing.assert_array_equal(again.xy, keypoints.xy)
        np.testing.assert_array_equal(again.visible, keypoints.visible & keypoints.labelled)
        np.testing.assert_array_equal(again.confidence, keypoints.confidence)


def test_pycocotools_loads_what_is_written(tmp_path: Path) -> None:
    frames = video(0)
    write_coco(tmp_path / "a.json", frames, (50, 100))
    coco = COCO(str(tmp_path / "a.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["00003", "00004", "00070"]
    assert all((i["height"], i["width"]) == (50, 100) for i in coco.loadImgs(coco.getImgIds()))
    (category,) = coco.loadCats(coco.getCatIds())
    assert category["keypoints"] == ["a", "b", "ü"] and category["skeleton"] == [[1, 3]]
    for image, (_, _, keypoints) in zip(coco.getImgIds(), frames, strict=True):
        items = coco.loadAnns(coco.getAnnIds(imgIds=[image]))
        assert len(items) == 2
        for i, item in enumerate(items):
            xy = keypoints.xy[i][keypoints.labelled[i]]
            assert item["num_keypoints"] == len(xy) == sum(v > 0 for v in item["keypoints"][2::3])
            assert item["category_id"] == category["id"]
            if len(xy):
                low, span = xy.min(0), np.ptp(xy, axis=0)
                np.testing.assert_allclose(item["bbox"], [*low, *span], rtol=1e-6)
                np.testing.assert_allclose(item["area"], span[0] * span[1], rtol=1e-5)
                mean = keypoints.confidence[i][keypoints.labelled[i]].mean()
                np.testing.assert_allclose(item["score"], mean, rtol=1e-5)
            else:
                assert item["bbox"] == [0, 0, 0, 0] and item["score"] == item["area"] == 0


LEAVES = st.none() | st.booleans() | st.integers(-2, 10) | st.floats() | st.sampled_from(["", "1", "a"])
ANY = LEAVES | st.lists(LEAVES, max_size=9) | st.dictionaries(st.sampled_from(["id", "track_id"]), LEAVES)
PATHS = [
    *("images", "annotations", "categories", "images.0.id", "images.0.file_name", "images.0.frame_index"),
    *("annotations.0", "annotations.0.keypoints", "annotations.0.keypoints.1", "annotations.0.image_id"),
    *("annotations.0.category_id", "annotations.0.score", "annotations.0.scores", "annotations.0.track_id"),
    *("annotations.0.attributes", "annotations.0.instance", "categories.0", "categories.0.keypoints"),
    *("categories.0.keypoints.0", "categories.0.skeleton", "categories.0.skeleton.0", "categories.0.id"),
]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(PATHS), ANY), min_size=1, max_size=3))
def test_damaged_json_raises_only_input_errors(changes: list) -> None:
    data = copy.deepcopy(data_set())
    for path, value in changes:
        try:
            change(data, path, value)
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took that place away
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(data))
        try:
            frames = Keypoints.load(path)
        except InputError:
            return
    assert all(isinstance(keypoints, Keypoints) for keypoints in frames.values())

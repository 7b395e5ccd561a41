"""labelme and COCO JSON, and run lengths."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pretrain.errors import InputError
from vidtrack.labels import Masks
from vidtrack.labels.polygons import fill
from vidtrack.labels.rle import decode, encode

FEW = settings(deadline=None, max_examples=25)
SQUARE = [[1, 1], [3, 1], [3, 3], [1, 3]]  # pixels 1 and 2 in x and y
SQUARE_IDS = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]


def labelme(*shapes: dict[str, Any], height: Any = 3, width: Any = 4) -> dict[str, Any]:
    return {"version": "5.4.1", "shapes": list(shapes), "imageHeight": height, "imageWidth": width}


def shape(label: str, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def load(tmp_path: Path, content: Any, **options: Any) -> Masks:
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return Masks.load(path, **options)


def bitmap(pixels: list[list[int]]) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    ("shapes", "ids", "names"),
    [
        ([shape("dog", SQUARE)], SQUARE_IDS, {1: "dog"}),
        ([shape("dog", SQUARE, group_id=4)], SQUARE_IDS, {1: "dog"}),
        ([shape("dog", SQUARE, None)], SQUARE_IDS, {1: "dog"}),  # old files have no type
        ([shape("dog", [[3, 3], [1, 1]], "rectangle")], SQUARE_IDS, {1: "dog"}),
        ([shape("dog", [[2, 2], [2, 3]], "circle")], SQUARE_IDS, {1: "dog"}),
        (
            [shape("dog", [[2, 1], [3, 2]], "mask", mask=bitmap([[1, 0], [1, 1]]))],
            [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]],
            {1: "dog"},
        ),
        (  # a bitmap that reaches out of the image on all sides
            [shape("dog", [[-1, -1], [4, 3]], "mask", mask=bitmap(np.eye(5, 6, dtype=int).tolist()))],
            [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
            {1: "dog"},
        ),
        (  # the same label is the same object, another one covers it
            [
                shape("dog", [[0, 0], [1, 1]], "rectangle"),
                shape("cat", [[1, 0], [3, 1]], "rectangle"),
                shape("dog", [[2, 0], [4, 1]], "rectangle"),
            ],
            [[1, 2, 1, 1], [0] * 4, [0] * 4],
            {1: "dog", 2: "cat"},
        ),
        (  # group_id tells instances of one label apart
            [
                shape("dog", [[0, 0], [1, 1]], "rectangle", group_id=4),
                shape("dog", [[1, 0], [2, 1]], "rectangle", group_id=7),
                shape("dog", [[2, 0], [3, 1]], "rectangle", group_id=4),
            ],
            [[1, 2, 1, 0], [0] * 4, [0] * 4],
            {1: "dog 4", 2: "dog 7"},
        ),
        (  # points that lie outside of the image
            [shape("dog", [[-50, -50], [999999, -50], [999999, 2], [-50, 2]])],
            [[1] * 4, [1] * 4, [0] * 4],
            {1: "dog"},
        ),
        (
            [shape("dog", [[0, 0], [4, 3]], "rectangle"), shape("_background_", SQUARE)],
            [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]],
            {1: "dog"},
        ),
    ],
)
def test_labelme(tmp_path: Path, shapes: list, ids: list, names: dict) -> None:
    masks = load(tmp_path, labelme(*shapes))
    assert masks.ids.tolist() == ids
    assert masks.names == names
    assert masks.void is None


def test_labelme_void_lines_and_size(tmp_path: Path) -> None:
    content = labelme(
        shape("dog", [[0, 0], [4, 3]], "rectangle"),
        shape("__ignore__", SQUARE),
        shape("tail", [[0, 0], [1, 1]], "line"),
        height=None,
        width=None,
    )
    masks = load(tmp_path, content, size=(3, 4))  # without a size in the file: the video's
    assert masks.void is not None and masks.void.astype(int).tolist() == SQUARE_IDS
    assert masks.ids.tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]]
    assert len(masks.warnings) == 1 and "left out: line" in masks.warnings[0]
    with pytest.raises(InputError, match="no usable image size"):
        load(tmp_path, content)


def test_json_of_another_size_is_resized(tmp_path: Path) -> None:
    masks = load(tmp_path, labelme(shape("dog", SQUARE)), size=(6, 8))
    assert np.array_equal(masks.ids, np.kron(SQUARE_IDS, np.ones((2, 2))))
    assert masks.names == {1: "dog"}


FLAT = [1, 1, 3, 1, 3, 3, 1, 3]
RUNS = [4, 2, 1, 2, 3]  # the square, column by column
RLE = {"size": [3, 4], "counts": RUNS}
PACKED = {"size": [3, 4], "counts": encode(np.array(SQUARE_IDS, bool))["counts"]}
IMAGE = {"id": 9, "height": 3, "width": 4, "file_name": "a.jpg"}


def dataset(*segmentations: Any, images: Any = (IMAGE,)) -> dict[str, Any]:
    return {
        "images": list(images),
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 100 + i, "image_id": 9, "category_id": 1 + i % 2, "segmentation": s, "iscrowd": 0}
            for i, s in enumerate(segmentations)
        ],
    }


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (dataset([FLAT]), {1: "dog"}),
        (dataset(RLE), {1: "dog"}),
        (dataset(PACKED), {1: "dog"}),
        (dataset(FLAT), {1: "dog"}),  # a polygon without its outer list
        (dataset([[1, 1, 2, 1, 2, 3, 1, 3], [2, 1, 3, 1, 3, 3, 2, 3]]), {1: "dog"}),  # two parts
        (RLE, {}),
        (PACKED, {}),
        ([PACKED], {}),
        ({"segmentation": RLE, "category_id": 1}, {}),
        ([{"segmentation": PACKED}], {}),
        ({"segmentation": [FLAT], "height": 3, "width": 4}, {}),
    ],
)
def test_coco(tmp_path: Path, content: Any, names: dict) -> None:
    masks = load(tmp_path, content)
    assert masks.ids.tolist() == SQUARE_IDS
    assert masks.names == names
    assert masks.warnings == []
    assert Masks.from_coco(content).ids.tolist() == SQUARE_IDS
    assert Masks.from_coco(tmp_path / "mask.json").ids.tolist() == SQUARE_IDS


def test_coco_objects_are_numbered_in_order_and_later_ones_cover() -> None:
    masks = Masks.from_coco(dataset([[0, 0, 4, 0, 4, 2, 0, 2]], [FLAT]))
    assert masks.ids.tolist() == [[1, 1, 1, 1], [1, 2, 2, 1], [0, 2, 2, 0]]
    assert masks.names == {1: "dog", 2: "cat"}


def test_coco_polygons_without_a_size_take_the_videos(tmp_path: Path) -> None:
    masks = load(tmp_path, [{"segmentation": [FLAT]}], size=(3, 4))
    assert masks.ids.tolist() == SQUARE_IDS


def test_coco_with_several_images() -> None:
    content = dataset([FLAT], images=[IMAGE, {**IMAGE, "id": 10}])
    with pytest.raises(InputError, match="has 2 images: export only the annotated frame"):
        Masks.from_coco(content)
    assert Masks.from_coco(content, image=9).ids.tolist() == SQUARE_IDS
    with pytest.raises(InputError, match="has no object"):
        Masks.from_coco(content, image=10)
    with pytest.raises(InputError, match="has no image with id 11"):
        Masks.from_coco(content, image=11)


def test_coco_annotation_without_area_is_named() -> None:
    masks = Masks.from_coco(dataset([FLAT], []))
    assert masks.objects == [1]
    assert masks.warnings == ["the COCO annotation: 1 of 2 annotations have no area."]


def test_to_coco_keeps_ids_and_names() -> None:
    masks = Masks(np.array([[0, 7, 7], [2, 0, 254]], np.uint8), names={7: "dog"})
    runs = json.loads(json.dumps(masks.to_coco()))
    assert [(r["id"], r.get("name"), r["size"]) for r in runs] == [
        (2, None, [2, 3]),
        (7, "dog", [2, 3]),
        (254, None, [2, 3]),
    ]
    back = Masks.from_coco(runs)
    assert np.array_equal(back.ids, masks.ids)
    assert back.names == masks.names


@FEW
@given(
    ids=hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([0, 1, 9, 254])
    )
)
def test_coco_round_trip(ids: np.ndarray) -> None:
    if ids.any():
        assert np.array_equal(Masks.from_coco(Masks(ids).to_coco()).ids, ids)


def slow_decode(counts: str, height: int, width: int) -> np.ndarray:
    """The definition: unpack the numbers, undo the differences, paint pixel by pixel down the columns."""
    numbers, bits = [], ""
    for character in counts:
        code = format(ord(character) - 48, "06b")
        bits = code[1:] + bits
        if code[0] == "0":
            numbers.append(int(bits, 2) - (1 << len(bits) if bits[0] == "1" else 0))
            bits = ""
    for i in range(3, len(numbers)):
        numbers[i] += numbers[i - 2]
    mask, position = np.zeros((height, width), bool), 0
    for i, number in enumerate(numbers):
        for _ in range(number):
            mask[position % height, position // height] = i % 2 == 1
            position += 1
    return mask


@FEW
@given(
    st.one_of(
        hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)),
        st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60)).map(
            lambda v: np.hypot(*np.mgrid[: v[0], : v[1]]) < v[2]  # long runs: several characters a number
        ),
    )
)
def test_run_lengths_against_the_definition(mask: np.ndarray) -> None:
    runs = encode(mask)
    assert runs["size"] == list(mask.shape)
    assert np.array_equal(slow_decode(runs["counts"], *mask.shape), mask)
    assert np.array_equal(decode(runs["counts"], mask.shape, "x"), mask)
    column = mask.T.ravel()
    changes = np.flatnonzero(np.diff(column.astype(int), prepend=0)).tolist()
    plain = np.diff([0, *changes, mask.size]).tolist()
    assert np.array_equal(decode(plain, mask.shape, "x"), mask)


@FEW
@given(st.lists(st.tuples(st.integers(-8, 18), st.integers(-8, 18)), min_size=3, max_size=6))
def test_fill_covers_what_lies_inside(points: list) -> None:
    """Against the even-odd rule at the centre of each pixel, except within a pixel of an edge."""
    size = (10, 12)
    polygon = np.array(points, float)
    filled = fill(polygon, size)
    for y in range(size[0]):
        for x in range(size[1]):
            inside, near = False, False
            px, py = x + 0.5, y + 0.5
            for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                along = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-9)
                share = np.clip(((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / along, 0, 1)
                near |= bool(np.hypot(ax + share * (bx - ax) - px, ay + share * (by - ay) - py) <= 1)
                if (ay > py) != (by > py) and px < ax + (py - ay) / (by - ay) * (bx - ax):
                    inside = not inside
            assert near or filled[y, x] == inside


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"shapes": 3}, "no usable image size"),
        (labelme(height=0), "no usable image size"),
        (labelme(height=10**6, width=10**6), "no usable image size"),
        (labelme(), "has no object"),
        ({**labelme(), "shapes": 3}, "has no list of shapes"),
        ({**labelme(), "shapes": {"a": 1}}, "has no list of shapes"),
        (labelme(shape("dog", [[0, "a"]])), r"shape 1 \(dog\) has points that can't be read"),
        (labelme(shape("dog", [[0, float("nan")]] * 3)), "points that can't be read"),
        (labelme(shape("dog", [[0, 1e300]] * 3)), "points that can't be read"),
        (labelme(shape("dog", [[0, 0]], "circle")), "points that can't be read"),
        (labelme(shape("dog", SQUARE[:2], "mask", mask="????")), "has a bitmap that can't be read"),
        (labelme(shape("dog", SQUARE, "spline")), "has the unknown type 'spline'"),
        (labelme(*(shape(str(i), SQUARE) for i in range(255))), "has more than 254 objects"),
        (dataset(*[[FLAT]] * 255), "has more than 254 objects"),
        (dataset({"size": [3, 4], "counts": [4, 2]}), "run lengths that don't fill 4x3 pixels"),
        (dataset({"size": [3, 4], "counts": [4, 2, -1, 7]}), "run lengths that don't fill"),
        (dataset({"size": [3, 4], "counts": "P"}), "run lengths that don't fill"),
        (dataset({**PACKED, "counts": PACKED["counts"] + "P"}), "run lengths that don't fill"),
        (dataset({"size": [3, 4], "counts": ""}), "run lengths that don't fill"),
        (dataset({"size": [3, 4], "counts": "é"}), "run lengths that don't fill"),
        (dataset({"size": [4, 3], "counts": RUNS}), r"has the size \[4, 3\] in an image of \[3, 4\]"),
        (dataset({"size": [3, 4]}), "annotation 1 has no run lengths"),
        (dataset([[0, 1, 2]]), "has a polygon that can't be read"),
        (dataset("x"), "neither polygons nor RLE"),
        (dataset(), "has no object"),
        ({"annotations": 3}, "aren't lists of objects"),
        ([{"segmentation": [FLAT]}], "doesn't say how large its image is"),
        ({"annotations": [{"image_id": 1}, {"image_id": 2}]}, "has 2 images"),
    ],
)
def test_errors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, content)
    assert str(tmp_path / "mask.json") in str(caught.value)
    assert str(caught.value).endswith(".")

"""One id for one object over several annotated frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pretrain.errors import InputError
from vidtrack.labels import Masks
from vidtrack.labels.agree import agree, left_out

PLACES = {"a": (0, 0), "b": (0, 6), "c": (6, 0), "d": (6, 6)}
COLOURS = {"a": (255, 0, 0), "b": (0, 0, 255), "c": (9, 99, 200), "d": (128, 0, 0)}  # d: the palette's first


def painted(tmp_path: Path, names: str) -> Masks:
    """A picture in which each thing has its colour and its corner."""
    picture = np.zeros((12, 12, 3), np.uint8)
    for name in names:
        y, x = PLACES[name]
        picture[y : y + 5, x : x + 5] = COLOURS[name]
    Image.fromarray(picture).save(tmp_path / f"{names}.png")
    return Masks.load(tmp_path / f"{names}.png")


def drawn(tmp_path: Path, names: str, kind: str) -> Masks:
    """The same as polygons, in the order of `names`."""
    shapes: list[dict[str, Any]] = []
    for name in names:
        y, x = PLACES[name]
        corners = [[x, y], [x + 5, y], [x + 5, y + 5], [x, y + 5]]
        shapes.append({"label": name, "points": corners, "shape_type": "polygon"})
    data: dict[str, Any] = {"shapes": shapes, "imageHeight": 12, "imageWidth": 12}
    if kind == "coco":
        data = {
            "images": [{"id": 1, "height": 12, "width": 12}],
            "categories": [{"id": ord(name), "name": name} for name in PLACES],
            "annotations": [
                {
                    "image_id": 1,
                    "category_id": ord(s["label"]),
                    "segmentation": [np.ravel(s["points"]).tolist()],
                }
                for s in shapes
            ],
        }
    (tmp_path / f"{names}.json").write_text(json.dumps(data))
    return Masks.load(tmp_path / f"{names}.json")


def ids(masks: Masks) -> dict[str, int]:
    return {n: int(masks.ids[y + 2, x + 2]) for n, (y, x) in PLACES.items() if masks.ids[y + 2, x + 2]}


@pytest.mark.parametrize("kind", ["colours", "labelme", "coco"])
@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        ({0: "ab", 6: "b"}, [{"a": 1, "b": 2}, {"b": 2}]),
        ({0: "b", 6: "ab"}, [{"b": 1}, {"a": 2, "b": 1}]),
        ({0: "b", 6: "a", 9: "ba"}, [{"b": 1}, {"a": 2}, {"a": 2, "b": 1}]),
        ({9: "ab", 2: "cb"}, [{"b": 1, "c": 2}, {"a": 3, "b": 1}]),  # in the order of time
    ],
)
def test_the_same_thing_has_the_same_id(
    tmp_path: Path, kind: str, frames: dict[int, str], wanted: list[dict[str, int]]
) -> None:
    order = {n: "".join(sorted(names)) for n, names in frames.items()}
    masks = {
        n: painted(tmp_path, s) if kind == "colours" else drawn(tmp_path, s, kind) for n, s in order.items()
    }
    found = agree(masks)
    assert list(found) == sorted(frames) and [ids(one) for one in found.values()] == wanted
    for one in found.values():
        for name, number in ids(one).items():
            assert one.colors[number] == COLOURS[name] if kind == "colours" else one.names[number] == name


def test_a_colour_of_the_palette_is_no_other_colour(tmp_path: Path) -> None:
    """Alone, its id is that of the palette, which the red one has already."""
    found = agree({0: painted(tmp_path, "a"), 1: painted(tmp_path, "d"), 2: painted(tmp_path, "ad")})
    assert [ids(one) for one in found.values()] == [{"a": 1}, {"d": 2}, {"a": 1, "d": 2}]


def test_ids_of_files_are_kept() -> None:
    values = np.zeros((12, 12), np.uint8)
    values[:5, :5], values[6:11, 6:11] = 3, 200
    masks = {0: Masks(values), 5: Masks(np.where(values == 3, 0, values).astype(np.uint8))}
    assert agree(masks) == masks


def test_a_new_colour_takes_no_id_that_a_file_says(tmp_path: Path) -> None:
    values = np.zeros((12, 12), np.uint8)
    values[:5, :5], values[6:11, 6:11] = 2, 3
    found = agree({0: painted(tmp_path, "a"), 1: painted(tmp_path, "b"), 2: Masks(values)})
    assert [ids(one) for one in found.values()] == [{"a": 1}, {"b": 4}, {"a": 2, "d": 3}]


@given(st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1), min_size=1, max_size=6))
def test_any_frames_agree(frames: list[set[str]]) -> None:
    masks = {}
    for number, names in enumerate(frames):
        order = sorted(names, key=lambda name: crc32(f"{name}{number}".encode()))
        table = {i: (name,) for i, name in enumerate(order, 1)}
        masks[number] = Masks(np.arange(len(order) + 1, dtype=np.uint8)[None], keys=dict(table))
    known: dict[tuple[Any, ...], int] = {}
    for number, one in agree(masks).items():
        assert len(one.objects) == len(frames[number])
        for i in one.objects:
            assert known.setdefault(one.keys[i], i) == i
            place = int(np.flatnonzero(one.ids[0] == i)[0])
            assert masks[number].keys[int(masks[number].ids[0, place])] == one.keys[i]
    assert len(set(known.values())) == len(known)


def test_what_was_resized_is_the_same_thing(tmp_path: Path) -> None:
    small = agree({0: painted(tmp_path, "ab"), 1: painted(tmp_path, "b").resized((24, 24)).resized((12, 12))})
    assert ids(small[1]) == {"b": 2}


def test_too_many_things() -> None:
    masks = {
        n: Masks(np.arange(201, dtype=np.uint8)[None], keys={i: (f"{n} {i}",) for i in range(1, 201)})
        for n in (0, 1)
    }
    with pytest.raises(InputError, match="254"):
        agree(masks)


def test_what_is_left_out_is_told() -> None:
    def frame(*objects: int) -> Masks:
        return Masks(np.array([[0, *objects]], np.uint8), names={2: "dog"})

    assert left_out({0: frame(1), 5: frame(1, 2), 9: frame(2, 1)}) == []
    (told,) = left_out({5: frame(1), 0: frame(1, 2), 9: frame(1, 2)})
    assert "frame 5 leaves out object 2 (dog): it says" in told
    (told,) = left_out({0: frame(1, 2, 3, 4, 5), 5: frame(9), 7: frame(8)})
    assert "leaves out objects 1, 2 (dog), 3 and 2 more, and has object 9, which no frame" in told
    assert "later ones leave out objects, too" in told

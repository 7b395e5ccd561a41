"""Garbage and damaged files of every kind: an InputError, or masks; never anything else."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.errors import InputError
from vidtrack.labels import Masks

IMAGE = {"id": 9, "height": 3, "width": 4, "file_name": "a.jpg"}
COCO = {
    "images": [IMAGE],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 1, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]},
        {
            "id": 2,
            "image_id": 9,
            "category_id": 1,
            "segmentation": {"size": [3, 4], "counts": [4, 2, 1, 2, 3]},
        },
    ],
    "categories": [{"id": 1, "name": "cat"}],
}

KEYS = st.sampled_from(
    [
        *("shapes", "label", "points", "shape_type", "group_id", "mask", "imageHeight", "imageWidth"),
        *("images", "annotations", "categories", "id", "image_id", "category_id", "segmentation"),
        *("counts", "size", "height", "width", "name", "x"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 300)
    | st.floats()
    | st.sampled_from(["", "1", "a", "oo", "é"])
)
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
POLYGON = st.lists(st.lists(st.integers(-5, 20) | st.floats(), min_size=2, max_size=2), max_size=6)
SHAPE = st.fixed_dictionaries(
    {
        "label": ANY,
        "points": POLYGON | ANY,
        "shape_type": st.sampled_from(["polygon", "circle", "rectangle", "mask"]),
    },
    optional={"group_id": ANY, "mask": ANY},
)
SEGMENT = st.lists(POLYGON.map(lambda p: [n for xy in p for n in xy]), max_size=3) | st.fixed_dictionaries(
    {"counts": st.text() | st.lists(st.integers(-2, 9), max_size=6) | ANY, "size": st.just([3, 4]) | ANY}
)
SIZE = st.integers(-1, 30) | LEAVES
FILES = st.one_of(
    ANY,
    st.fixed_dictionaries({"shapes": st.lists(SHAPE, max_size=3), "imageHeight": SIZE, "imageWidth": SIZE}),
    st.fixed_dictionaries(
        {
            "annotations": st.lists(
                st.fixed_dictionaries(
                    {"segmentation": SEGMENT | ANY}, optional={"id": ANY, "category_id": ANY, "name": ANY}
                ),
                max_size=3,
            )
        },
        optional={"images": st.just([IMAGE]) | ANY, "categories": ANY},
    ),
    SEGMENT,
)


@settings(deadline=None, max_examples=60)
@given(FILES)
def test_garbage_json_raises_only_input_errors(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.json"
        path.write_text(json.dumps(content))
        try:
            masks = Masks.load(path, size=(3, 4))
        except InputError:
            return
        assert masks.size == (3, 4)


def starts() -> list[bytes]:
    """A valid file of each kind, to be damaged."""
    array = np.tile(np.array([[0, 1, 2, 200]], np.uint8), (5, 2))
    files = []
    for format_ in ("PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG"):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, format_, **({"lossless": True} if format_ == "WEBP" else {}))
        files.append(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, array)
    return [*files, stream.getvalue(), json.dumps(COCO).encode()]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, max_examples=80)
@given(st.sampled_from(starts()), st.data())
def test_damaged_files_raise_only_input_errors(content: bytes, data: Any) -> None:
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask"
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(InputError):
            assert Masks.load(path).objects

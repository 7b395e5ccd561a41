"""Labels, configs and what trackers say of themselves, of whatever content: a value, or one sentence."""

import base64
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.config import load_config
from pretrain.errors import InputError
from pretrain.settings import schema
from vidtrack.files import bundled_configs
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.labels.deeplabcut import write_deeplabcut
from vidtrack.labels.rle import decode
from vidtrack.labels.softmaps import load_soft, save_soft
from vidtrack.learn.adapt import Adapt
from vidtrack.learn.settings import TrackConfig
from vidtrack.pickles import read_pickle

from .garbage import ANY, ODD, changed, damaged, table

FUZZ = settings(settings.get_profile("hostile"))
POINTS = {
    "images": [{"id": 1, "file_name": "a/img7.png", "width": 9, "height": 8, "frame_index": 3}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "keypoints": [1, 2, 2, 3, 4.5, 1],
            "score": 0.5,
            "track_id": 1,
        }
    ],
    "categories": [{"id": 1, "name": "x", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}],
}
LABELME = {
    "imageHeight": 8,
    "imageWidth": 9,
    "shapes": [
        {"label": "cat", "shape_type": "rectangle", "points": [[1, 2], [5, 6]], "group_id": 3},
        {"label": "dog", "shape_type": "circle", "points": [[4, 4], [5, 6]]},
        {"label": "bird", "shape_type": "polygon", "points": [[0, 0], [5, 0], [4, 7]]},
    ],
}
COCO = {
    "images": [{"id": 9, "height": 8, "width": 9}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 1, "segmentation": [[1, 1, 3, 1, 3, 3]], "track_id": 7},
        {"id": 2, "image_id": 9, "segmentation": {"size": [8, 9], "counts": [40, 20, 12]}},
    ],
    "categories": [{"id": 1, "name": "cat"}],
}
WORDS = [
    *("frame", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "confidence", "object", "id", "instance"),
    *(
        "keypoint",
        "x",
        "y",
        "visible",
        "scorer",
        "bodyparts",
        "coords",
        "individuals",
        "likelihood",
        "a/img1.png",
    ),
]
HEADERS = [
    *("frame,x1,y1,x2,y2", "frame,object,x1,y1,x2,y2,confidence", "frame,keypoint,x,y", "", "scorer,A,A"),
    *("frame,instance,keypoint,x,y,visible,confidence", "scorer,A,A\nbodyparts,a,a\ncoords,x,y"),
]


def survives(load: Callable[[Path], Any], content: bytes, name: str = "file") -> Any:
    """What a reader makes of a file; None where it says no in a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return load(path)
        except InputError as error:
            assert len(str(error)) < 2000 + 2 * len(str(path))
            return None


@FUZZ
@given(st.sampled_from(HEADERS), table(WORDS))
def test_tables(header: str, lines: str) -> None:
    text = f"{header}\n{lines}".encode("utf-8", "surrogatepass")
    for load in (Boxes.load, Keypoints.load):
        found = survives(load, text)
        assert found is None or all(type(frame) is int and frame >= 0 for frame in found)


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda t: t.encode("utf-16")))
def test_any_bytes(content: bytes) -> None:
    for load in (Boxes.load, Keypoints.load, Masks.load, Maps.load, load_soft, read_pickle):
        assert survives(load, content, "file.npz") is None or content


@FUZZ
@given(changed(POINTS) | ANY)
def test_json_of_keypoints(value: Any) -> None:
    survives(Keypoints.load, json.dumps(value).encode())


@FUZZ
@given(changed(LABELME) | changed(COCO))
def test_json_of_masks(value: Any) -> None:
    found = survives(lambda path: Masks.load(path, size=(8, 9)), json.dumps(value).encode())
    assert found is None or found.size == (8, 9)


@FUZZ
@given(st.text(max_size=40) | st.binary(max_size=40) | st.lists(ANY, max_size=6))
def test_run_lengths(counts: Any) -> None:
    with contextlib.suppress(InputError):
        assert decode(counts, (4, 5), "it").shape == (4, 5)


def arrays() -> list[bytes]:
    """Good files of maps and of soft maps."""
    files = []
    for save in (np.save, np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, np.arange(60, dtype=np.float32).reshape(4, 5, 3))
        files.append(stream.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        save_soft(Path(folder) / "s.npz", np.full((2, 1, 2), 0.5, np.float32), [3], (8, 16))
        files.append((Path(folder) / "s.npz").read_bytes())
    return files


@FUZZ
@given(st.sampled_from(arrays()).flatmap(damaged))
def test_damaged_arrays(content: bytes) -> None:
    for load in (Maps.load, load_soft, Masks.load):
        survives(load, content)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("shape", [(10**9, 10**9), (2**62, 4), (-1, 5), (0, 0), (10**6, 10**6, 10**6)])
@pytest.mark.parametrize("kind", ["<f4", "|u1", "|O", "<M8[s]", "<U10"])
def test_arrays_that_claim_to_be_large(shape: tuple[int, ...], kind: str) -> None:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"x" * 64
    for load in (Maps.load, Masks.load):
        assert survives(load, content) is None


def test_an_archive_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, values=np.zeros((100, 100, 3), np.float32))
    assert survives(Maps.load, stream.getvalue()) is not None
    monkeypatch.setattr("vidtrack.labels.npz.open_npz.__defaults__", (100_000,))
    assert survives(Maps.load, stream.getvalue()) is None


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pytest.importorskip("tables")
    path = tmp_path_factory.mktemp("h5") / "a.h5"
    write_deeplabcut(path, [(n, "", Keypoints.from_points([(n, 2), (3, 4)])) for n in range(3)])
    return path.read_bytes()


def test_h5_that_breaks_off_or_is_something_else(h5: bytes) -> None:
    assert len(survives(Keypoints.load, h5)) == 3
    assert survives(Keypoints.load, h5[: len(h5) // 2]) is None
    assert survives(Keypoints.load, h5[:8] + bytes(len(h5))) is None


@FUZZ
@given(st.data())
def test_configs(data: Any) -> None:
    kinds = [(TrackConfig, "track/laptop"), (Adapt, "track/adapt"), (schema("simclr"), "pretrain/simclr")]
    kind, name = data.draw(st.sampled_from(kinds))
    good = load_config(kind, name, [], bundled_configs()).model_dump(mode="json")
    content = (
        json.dumps(data.draw(changed(good))).encode()
        if data.draw(st.booleans())
        else data.draw(damaged((bundled_configs() / f"{name}.yaml").read_bytes()))
    )
    survives(lambda path: load_config(kind, str(path), [], bundled_configs()), content)


KEYS = [
    "seed",
    "optimizer.steps",
    "model.head",
    "clips.gap",
    "objectives",
    "objectives.lab",
    "data",
    "a..b",
    ".",
    "é",
]


@FUZZ
@given(
    st.sampled_from(KEYS) | st.text(max_size=9),
    st.sampled_from([*ODD, "[", "{a: b", "*a", "!!x 1", "2024-99-99"]),
)
def test_overrides(key: str, value: str) -> None:
    with contextlib.suppress(InputError):
        load_config(TrackConfig, "track/laptop", [f"{key}={value}"], bundled_configs())


LINES = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
BOMBS = {
    "aliases": "\n".join(["a0: &a0 [x, x, x]", *LINES]),
    "an alias of itself": "&a [*a]",
    "a mapping in itself": "seed: &a {b: *a}",
    "brackets": "[" * 90_000,
    "braces": "{a: " * 20_000,
    "steps": "- " * 40_000,
    "questions": "? " * 40_000,
    "a long number": f"seed: {'9' * 50_000}",
    "a long hexadecimal number": f"seed: 0x{'f' * 50_000}",
    "a date": "seed: 2024-99-99",
    "an object": "seed: !!python/object/apply:os.mkdir [made]",
    "another object": "seed: !!python/name:os.system",
    "a list as key": "? [a]\n: b",
    "a merge of nothing": "<<: 3",
    "no text": "seed: \0",
    "large": "# " + "x" * 10**6,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml_that_grows_or_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(BOMBS[bomb])
    with pytest.raises(InputError, match=r"c\.yaml") as caught:
        load_config(TrackConfig, "c.yaml", [], bundled_configs())
    assert len(str(caught.value)) < 1000 and not (tmp_path / "made").exists()
    if len(BOMBS[bomb]) < 10**5:
        with pytest.raises(InputError):
            load_config(TrackConfig, "track/laptop", [f"seed={BOMBS[bomb]}"], bundled_configs())


def test_a_picture_inside_json_that_is_too_large() -> None:
    stream = io.BytesIO()
    Image.new("1", (10_000, 7_000)).save(stream, "PNG")

    shape = {
        "shape_type": "mask",
        "points": [[0, 0], [1, 1]],
        "mask": base64.b64encode(stream.getvalue()).decode(),
    }
    content = json.dumps({**LABELME, "shapes": [shape]}).encode()
    with pytest.raises(InputError, match="more than the"), tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_bytes(content)
        Masks.load(Path(folder) / "a.json")

"""Maps: files, sizes against a slow formula, errors."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.labels import Maps

NAN = float("nan")


def saved(path: Path, values: np.ndarray) -> Path:
    with path.open("wb") as stream:
        np.save(stream, values)
    return path


@pytest.mark.parametrize(
    ("values", "confidence"),
    [
        (np.zeros((2, 3), np.float32), None),
        (np.zeros((2, 3, 1)), None),
        (np.zeros((2, 0, 1), np.float32), None),
        (np.zeros((2, 3, 1), np.float32), np.zeros((2, 3))),
        (np.zeros((2, 3, 1), np.float32), np.zeros((3, 2), np.float32)),
    ],
)
def test_wrong_arrays_are_refused(values: np.ndarray, confidence: np.ndarray | None) -> None:
    with pytest.raises(ValueError) as caught:
        Maps(values, confidence)
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float16, np.float64, ">f4"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 4)])
def test_numbers_of_all_types(tmp_path: Path, dtype: type, shape: tuple) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    maps = Maps.load(saved(tmp_path / "map.bin", values))
    assert maps.values.dtype == np.float32 and maps.values.dtype.isnative
    np.testing.assert_array_equal(maps.values, values.reshape(2, 3, -1))
    assert maps.size == (2, 3) and maps.confidence is None and maps.warnings == []
    np.savez(tmp_path / "map.npz", anything=values)
    np.testing.assert_array_equal(Maps.load(tmp_path / "map.npz").values, maps.values)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("rated", [False, True])
def test_saved_file_reads_back(tmp_path: Path, suffix: str, rated: bool) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 7, 3)).astype(np.float32)
    values[2, 3] = NAN
    maps = Maps(values, random.random((5, 7)).astype(np.float32) if rated else None)
    path = tmp_path / f"map{suffix}"
    maps.save(path)
    again = Maps.load(path, size=(5, 7))
    np.testing.assert_array_equal(again.values, values)
    assert not again.labelled[2, 3] and again.labelled.sum() == 34
    if rated and suffix == ".npz":
        np.testing.assert_array_equal(again.confidence, maps.confidence)
    else:
        assert again.confidence is None
    with pytest.raises(InputError, match="exists already"):
        maps.save(path)
    maps.save(path, overwrite=True)
    with pytest.raises(InputError, match=r"neither \.npy nor \.npz"):
        maps.save(tmp_path / "map.tif")


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 40)] * 4))
def test_resized_takes_the_nearest_pixel(sizes: tuple) -> None:
    """Centre to centre, with the borders of both pictures in one place; of two as near, either."""
    (height, width), (tall, wide) = sizes[:2], sizes[2:]
    places = np.stack(np.mgrid[:height, :width], axis=2).astype(np.float32)  # each pixel holds its place
    maps = Maps(places, places[..., 0]).resized((tall, wide))
    assert maps.size == (tall, wide) and maps.confidence is not None
    np.testing.assert_array_equal(maps.confidence, maps.values[..., 0])
    rows, columns = maps.values.astype(int).transpose(2, 0, 1)
    y, x = np.mgrid[:tall, :wide]
    assert (abs((2 * y + 1) * height - (2 * rows + 1) * tall) <= tall).all()
    assert (abs((2 * x + 1) * width - (2 * columns + 1) * wide) <= wide).all()


def test_another_size(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(9, 16, 2))
    path = saved(tmp_path / "map.npy", values)
    maps = Maps.load(path, size=(18, 32))
    np.testing.assert_array_equal(maps.values, values.astype(np.float32).repeat(2, 0).repeat(2, 1))
    assert maps.warnings == [f"{path} is 16x9 and was resized to the video's 32x18."]
    with pytest.raises(InputError, match="is 16x9 but the video is 16x16, another aspect ratio"):
        Maps.load(path, size=(16, 16))
    with pytest.raises(InputError, match="channels first"):
        Maps.load(saved(path, np.zeros((3, 90, 160))), size=(90, 160))
    lonely = np.full((90, 160), NAN)
    lonely[1, 1] = 1
    with pytest.raises(InputError, match="no label left when resized from 160x90 to the video's 16x9"):
        Maps.load(saved(path, lonely), size=(9, 16))


def not_an_array() -> bytes:
    """A zip file whose member `values.npy` is other bytes, which numpy hands out as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("values.npy", b"no array")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither .npy nor .npz"),
        (b"GIF89a", "neither .npy nor .npz"),
        (b"\x93NUMPY\x01\x00", "is damaged"),
        (b"PK\x03\x04", "is damaged"),
        (not_an_array(), "holds |S8 []"),
        (np.zeros(3), "holds float64 [3]"),
        (np.zeros((1, 2, 3, 4)), "holds float64 [1, 2, 3, 4]"),
        (np.zeros((0, 2)), "holds float64 [0, 2]"),
        (np.zeros((2, 2), complex), "holds complex128 [2, 2]"),
        (np.array([["a"]]), "holds <U1 [1, 1]"),
        (np.array([[1, np.inf]]), "infinite"),
        (np.array([[1e300, 0]]), "infinite"),
        (np.full((2, 2), NAN), "no label"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 2))}, "several arrays or none (a, b)"),
        ({}, "several arrays or none (none)"),
        ({"values": np.zeros((2, 2)), "confidence": np.zeros((2, 3))}, "confidence that isn't"),
        ({"values": np.zeros((2, 2)), "confidence": np.full((2, 2), 1.5)}, "confidence that isn't"),
        ({"values": np.zeros((2, 2)), "confidence": np.full((2, 2), NAN)}, "confidence that isn't"),
    ],
)
def test_errors(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "map"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        with path.open("wb") as stream:
            np.savez(stream, **content)
    else:
        saved(path, np.asarray(content))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Maps.load(path)
    assert str(path) in str(caught.value)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    np.save(path, np.array([[None]], object), allow_pickle=True)
    with pytest.raises(InputError, match="holds no numbers"):
        Maps.load(path)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_damaged_files_raise_only_input_errors(data: st.DataObject) -> None:
    import tempfile

    stream = io.BytesIO()
    if data.draw(st.booleans()):
        np.save(stream, np.ones((4, 5)))
    else:
        np.savez_compressed(stream, values=np.ones((4, 5)), confidence=np.ones((4, 5)))
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map"
        path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
        try:
            maps = Maps.load(path)
        except InputError:
            return
    assert maps.labelled.any()

"""Arrays of MATLAB files: what scipy writes comes back, anything else is refused and never crashes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from vidtrack.benchmark.matfile import Damaged, read_array

TYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(2, 15, 7), (1, 1), (2, 15, 0), (3, 2, 2, 2)])
def test_what_scipy_writes_comes_back(
    tmp_path: Path, kind: str, shape: tuple[int, ...], compressed: bool
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    others = {"a": np.ones((2, 2)), "text": "word", "cell": np.array([1, "b"], object), "pos": np.zeros(1)}
    savemat(tmp_path / "x.mat", {**others, "pos_img": values, "z": 3.0}, do_compression=compressed)
    found = read_array(tmp_path / "x.mat", "pos_img")
    assert found is not None and found.dtype == np.float64
    np.testing.assert_array_equal(found, values)
    assert read_array(tmp_path / "x.mat", "pos_im") is None


def test_the_other_order_of_bytes(tmp_path: Path) -> None:
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    parts = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">2i", 1, 2)) + element(1, b"pos")
    head = bytes(124) + b"\x01\x00MI"
    (tmp_path / "x.mat").write_bytes(head + element(14, parts + element(9, struct.pack(">2d", 1.5, -2))))
    assert read_array(tmp_path / "x.mat", "pos").tolist() == [[1.5, -2]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.array([[1j]]), "no array of real numbers"), ("word", "no array of real numbers")],
)
def test_other_kinds_of_values(tmp_path: Path, value: object, sentence: str) -> None:
    savemat(tmp_path / "x.mat", {"pos": value})
    with pytest.raises(Damaged, match=sentence):
        read_array(tmp_path / "x.mat", "pos")


def test_a_small_file_with_a_huge_array_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidtrack.benchmark.matfile.MOST", 10**5)
    savemat(tmp_path / "x.mat", {"pos": np.zeros(10**5)}, do_compression=True)
    assert (tmp_path / "x.mat").stat().st_size < 10**4
    with pytest.raises(Damaged, match="more than"):
        read_array(tmp_path / "x.mat", "pos")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    path = tmp_path_factory.mktemp("mat") / "x.mat"
    contents = []
    for compressed in (False, True):
        savemat(path, {"s": 2, "pos": np.arange(30.0).reshape(2, 15)}, do_compression=compressed)
        contents.append(path.read_bytes())
    return path, contents


@settings(deadline=None, max_examples=300)
@given(st.booleans(), st.integers(0, 500), st.binary(min_size=1, max_size=8), st.booleans())
def test_damage_is_told_or_harmless(
    files: tuple[Path, list[bytes]], compressed: bool, place: int, inserted: bytes, cut: bool
) -> None:
    path, content = files[0], files[1][compressed]
    path.write_bytes(content[:place] + inserted + (b"" if cut else content[place + len(inserted) :]))
    try:
        found = read_array(path, "pos")
    except Damaged:
        return
    assert found is None or found.dtype == np.float64


def test_a_size_below_zero_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"pos": np.ones((1, 2))})
    content = (tmp_path / "x.mat").read_bytes()
    assert content.count(struct.pack("<2i", 1, 2)) == 1
    (tmp_path / "x.mat").write_bytes(content.replace(struct.pack("<2i", 1, 2), struct.pack("<2i", -1, -2)))
    with pytest.raises(Damaged, match="another size"):
        read_array(tmp_path / "x.mat", "pos")

"""Pickles inside other people's files (TAP-Vid, H5 of DeepLabCut): nothing runs, and nothing grows."""

import contextlib
import os
import pickle
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.benchmark.tapvid_files import read_sequences
from vidtrack.labels import Keypoints
from vidtrack.labels.deeplabcut import write_deeplabcut
from vidtrack.pickles import loads, read_pickle

from .garbage import damaged

FUZZ = settings(settings.get_profile("hostile"))
SET = {
    "cat": {
        "video": np.zeros((2, 4, 5, 3), np.uint8),
        "points": np.full((1, 2, 2), 0.5, np.float32),
        "occluded": np.zeros((1, 2), bool),
    }
}


class Evil:
    """What makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def named(module: str, name: str, arguments: bytes) -> bytes:
    """A pickle that calls something, in its own words."""
    return b"\x80\x04c" + f"{module}\n{name}\n".encode() + arguments + b"R."


@pytest.mark.parametrize("protocol", range(6))
def test_a_set_that_makes_a_folder_makes_none(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "set.pkl"
    for value in (
        Evil(tmp_path / "made"),
        {"cat": Evil(tmp_path / "made")},
        [SET, (Evil(tmp_path / "made"),)],
    ):
        path.write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(InputError, match="asks to run"):
            read_sequences(path)
        assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("builtins", "eval", b"(V1\nt"),
        ("os", "system", b"(Vtrue\nt"),
        ("numpy", "load", b"(Vx\nt"),
        ("numpy.core.multiarray", "fromfile", b"(Vx\nt"),
        ("numpy.core.multiarray._reconstruct.__globals__", "x", b")"),
        ("numpy", "dtype.__class__", b")"),
        ("copyreg", "_reconstructor", b")"),
        ("vidtrack.pickles", "_Name", b")"),
        ("builtins", "getattr", b"(VX\nVy\nt"),
        ("builtins", "bytes", b"(I1000000000\nt"),
        ("builtins", "bytearray", b"(I1000000000\nt"),
        ("builtins", "set", b"(I3\nt"),
        ("_codecs", "encode", b"(Vx\nVrot13\nt"),
        ("numpy", "ndarray", b"((I9\ntt"),
        ("numpy", "dtype", b"(VV1000000000\nt"),
        ("numpy", "dtype", b"(Vm8\nI0\nI1\nt"),
    ],
)
def test_names_that_are_refused(module: str, name: str, arguments: bytes) -> None:
    with pytest.raises(Exception) as caught:
        loads(named(module, name, arguments), "it")
    assert isinstance(caught.value, (InputError, pickle.UnpicklingError, TypeError))


EXTENSION = b"\x80\x02\x82\x01."  # something by the number under which a module may have registered it
BUILT = b"\x80\x04cnumpy\ndtype\n}V_make\nK\x01sb."  # sets an attribute of a name
OBJECT = b"\x80\x04(cnumpy\ndtype\nVu1\no."
NEW = b"\x80\x04cnumpy\ndtype\n)\x81."


@pytest.mark.parametrize(
    "content", [EXTENSION, BUILT, OBJECT + b"x", NEW, b"\x80\x04Pabc\n.", b"\x80\x04\x8c\xff"]
)
def test_tricks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError):
        read_sequences(tmp_path / "a.pkl")


def growing(kind: str) -> bytes:
    """A small pickle of much: each line asks for the one before several times."""
    if kind == "lists":  # of lists of lists: six levels of a thousand
        lines = b"".join(b"(" + b"g%d\n" % n * 1000 + b"lp%d\n0" % (n + 1) for n in range(5))
        return b"(I1\nlp0\n0" + lines + b"g5\n."
    text = b"V" + b"x" * 100_000 + b"\np0\n0"
    if kind == "bytes":
        call = b"c_codecs\nencode\n(g0\nVlatin1\ntR"
    elif kind == "sets":
        text = b"(" + b"".join(b"I%d\n" % n for n in range(20_000)) + b"lp0\n0"
        call = b"cbuiltins\nset\n(g0\ntR"
    else:
        text = b"(" + b"N" * 100_000 + b"lp0\n0"
        call = b"cpandas.core.indexes.frozen\nFrozenList\n(g0\ntR"
    return text + b"(" + call * 3000 + b"l."


@pytest.mark.parametrize("kind", ["lists", "bytes", "sets", "frozen lists"])
def test_pickles_that_grow(tmp_path: Path, kind: str) -> None:
    content = growing(kind)
    assert len(content) < 400_000
    (tmp_path / "a.pkl").write_bytes(content)
    tracemalloc.start()
    with contextlib.suppress(InputError):
        read_pickle(tmp_path / "a.pkl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_what_is_in_it_twice_stays_the_same_thing() -> None:
    shared = [np.arange(3), "x"]
    found = loads(pickle.dumps([shared, shared, (shared,)]), "it")
    assert found[0] is found[1] is found[2][0] and found[0][0].tolist() == [0, 1, 2]


@FUZZ
@given(st.data())
def test_any_opcodes(data: Any) -> None:
    """Words of the language of pickles in any order, with the names that are known."""
    names = [
        b"cnumpy\ndtype\n",
        b"c_codecs\nencode\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy\nndarray\n",
    ]
    words = [
        *b"(.0123FIJKLMNQRSTUVX]abcdeghijlopqrstu}\x81\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x93\x94\x95"
    ]
    parts = st.sampled_from([bytes([word]) for word in words] + names) | st.binary(max_size=3)
    content = b"\x80\x04" + b"".join(data.draw(st.lists(parts, max_size=30))) + b"."
    try:
        loads(content, "it")
    except Exception as error:
        assert not isinstance(error, (SystemError, MemoryError))


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    pytest.importorskip("tables")
    path = tmp_path / "a.h5"
    write_deeplabcut(path, [(n, "", Keypoints.from_points([(n, 2), (3, 4)])) for n in range(3)])
    return path


@pytest.mark.parametrize("place", ["attribute of the root", "index", "column"])
def test_h5_that_makes_a_folder_makes_none(h5: Path, place: str) -> None:
    import tables

    evil = Evil(h5.parent / "made")
    with tables.open_file(str(h5), "a") as file:
        table = file.root.df_with_missing
        if place == "attribute of the root":
            file.root._v_attrs.TITLE = evil
            table._v_attrs.CLASS = evil
        elif place == "column":
            table._v_attrs.non_index_axes = table.table._v_attrs.values_block_0_kind = evil
        else:
            file.remove_node("/df_with_missing", recursive=True)
            group = file.create_group("/", "df_with_missing")
            for name in ("axis0", "axis1", "block0_items", "block0_values"):
                file.create_vlarray(group, name, tables.ObjectAtom()).append(evil)
            for key, value in {"pandas_type": "frame", "ndim": 2, "nblocks": 1}.items():
                setattr(group._v_attrs, key, value)
            for name in ("axis0", "axis1", "block0_items"):
                setattr(group._v_attrs, f"{name}_variety", "regular")
                getattr(group, name)._v_attrs.kind = "object"
    for folder in (h5.parent / "made",):
        if folder.exists():  # PyTables reads what it has just written
            folder.rmdir()
    with pytest.raises(InputError, match=r"a\.h5"):
        Keypoints.load(h5)
    assert not (h5.parent / "made").exists()


def test_the_h5_of_this_test_would_run(h5: Path) -> None:
    import tables

    with tables.open_file(str(h5), "a") as file:
        file.root.df_with_missing._v_attrs.non_index_axes = Evil(h5.parent / "made")
    with tables.open_file(str(h5), "r") as file:
        _ = file.root.df_with_missing._v_attrs.non_index_axes
    assert (h5.parent / "made").exists()


@pytest.mark.parametrize(
    "program", ["import os; os.abort()", "while True: pass", "pass", "raise MemoryError"]
)
def test_an_h5_that_crashes_its_reader_or_keeps_it(
    h5: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("vidtrack.labels.h5table._PROGRAM", program)
    monkeypatch.setattr("vidtrack.labels.h5table.SECONDS", 0.5)
    with pytest.raises(InputError, match=r"a\.h5 can't be read as a table of DeepLabCut"):
        Keypoints.load(h5)


@settings(FUZZ, max_examples=max(1, FUZZ.max_examples // 12))
@given(st.data())
def test_bytes_of_an_h5_that_are_others(data: Any) -> None:
    """One in some hundred crashes HDF5: here, its own process."""
    pytest.importorskip("tables")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        write_deeplabcut(path, [(n, "", Keypoints.from_points([(n, 2), (3, 4)])) for n in range(3)])
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        with contextlib.suppress(InputError):
            Keypoints.load(path)

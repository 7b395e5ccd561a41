"""Pickles of arrays: equal to what pickle itself reads, and nothing that they name is executed."""

import collections
import io
import os
import pickle
import pickletools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.pickles import read_pickle

NUMBERS = np.arange(24).reshape(2, 3, 4)
CONTENTS = {
    "uint8": NUMBERS.astype(np.uint8),
    "float32": NUMBERS.astype(np.float32) / 3,
    "big endian": (NUMBERS / 3).astype(">f8"),
    "bool": NUMBERS % 3 == 0,
    "fortran": np.asfortranarray(NUMBERS),
    "strided": NUMBERS[:, ::2, 1:],
    "permuted": np.ascontiguousarray(NUMBERS).transpose(1, 2, 0),
    "no axes": np.array(3.5),
    "empty": np.zeros((0, 4), np.float32),
    "bytes": np.array([b"\xff\xd8one", b"\xff\xd8fourteen"]),
    "text": np.array(["a", "déjà"]),
    "objects": np.array([b"one", b"\xfe\x00"], object),
    "dict": {"bear": {"video": NUMBERS, "points": NUMBERS / 2, "n": 3, "x": None, "b": b"", "s": b"\xe9"}},
    "list": [{"video": [b"a", b"\x80b"]}, (1, 2.5, True), {1, 2}, frozenset({"a"}), bytearray(b"xy")],
    "ordered": collections.OrderedDict(a=NUMBERS),
    "scalars": {np.str_("name"): np.float32(1.5), "b": np.bool_(True), "i": np.int64(-7)},
}


def equal(a, b) -> bool:
    """Same values and types; containers are the plain ones."""
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in b)
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


def of_numpy_1(data: bytes) -> bytes:
    """The same pickle with the names of modules that numpy 1 wrote."""
    ops = list(pickletools.genops(data))
    ends = [position for _, _, position in ops[1:]] + [len(data)]
    out = b""
    for (op, value, start), end in zip(ops, ends, strict=True):
        if op.name == "FRAME":
            continue  # tells a length that no longer holds
        piece = data[start:end]
        if op.name == "SHORT_BINUNICODE" and value.startswith("numpy._core"):
            name = value.replace("numpy._core", "numpy.core").encode()
            piece = b"\x8c" + bytes([len(name)]) + name
        elif op.name == "GLOBAL":
            piece = piece.replace(b"numpy._core", b"numpy.core")
        out += piece
    return out


def written(folder: Path, data: bytes) -> Path:
    path = folder / "set.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", CONTENTS)
def test_reads_what_was_written(tmp_path, name, protocol):
    data = pickle.dumps(CONTENTS[name], protocol)
    assert equal(read_pickle(written(tmp_path, data)), CONTENTS[name])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["float32", "permuted", "bytes", "objects", "scalars"])
def test_reads_what_numpy_1_wrote(tmp_path, name, protocol):
    new = pickle.dumps(CONTENTS[name], protocol)
    old = of_numpy_1(new)
    assert b"numpy.core" in old and b"numpy._core" not in old
    assert equal(read_pickle(written(tmp_path, old)), CONTENTS[name])


def test_an_array_that_is_there_twice_is_read_twice(tmp_path):
    array = np.arange(3)
    first, second = read_pickle(written(tmp_path, pickle.dumps([array, array])))
    assert first.tolist() == second.tolist() == [0, 1, 2]


class Calls:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "refused"),
    [
        (os.system, ("touch {marker}",), "system"),
        (os.mkdir, ("{marker}",), "mkdir"),
        (eval, ("open('{marker}', 'w')",), "eval"),
        (exec, ("open('{marker}', 'w')",), "exec"),
        (getattr, ("a", "upper"), "getattr"),
        (np.save, ("{marker}", 1), "numpy.save"),
        (np.load, ("{marker}",), "numpy.load"),
        (Path, ("{marker}",), "Path"),
        (io.open, ("{marker}", "w"), "open"),
        (__import__, ("os",), "__import__"),
    ],
)
@pytest.mark.parametrize("protocol", range(6))
def test_names_are_refused_and_not_executed(tmp_path, function, arguments, refused, protocol):
    marker = tmp_path / "executed"
    arguments = tuple(a.format(marker=marker) if isinstance(a, str) else a for a in arguments)
    path = written(tmp_path, pickle.dumps({"bear": Calls(function, *arguments)}, protocol))
    with pytest.raises(InputError) as caught:
        read_pickle(path)
    assert str(path) in str(caught.value) and refused in str(caught.value)
    assert not list(tmp_path.glob("executed*"))


ATTACKS = {
    "a class of numpy with fields": pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])),
    "complex numbers": pickle.dumps(np.zeros(2, complex)),
    "dates": pickle.dumps(np.zeros(2, "M8[s]")),
    "an attribute of an allowed name": b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
    "a function of an allowed module": b"cnumpy.core.multiarray\nfromfile\n.",
    "a changed function": b"\x80\x02cnumpy\ndtype\nN}X\x05\x00\x00\x00_makeK\x01s\x86b.",
    "attributes of a function": b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.",
    "an array made directly": b"cnumpy\nndarray\n(I1000000000000\ntR.",
    "an instance of an array": b"\x80\x02cnumpy\nndarray\nI9\n\x85\x81.",
    "an array never filled": b"cnumpy.core.multiarray\n_reconstruct\n(tR.",
    "bytes in a codec": b"c_codecs\nencode\n(Va\nVrot13\ntR.",
    "bytes of a number": b"cbuiltins\nbytes\n(I9\ntR.",
    "a type of many bytes": b"cnumpy\ndtype\n(VS99999999999999\ntR.",
    "an object as bytes": b"\x80\x03cnumpy.core.multiarray\nscalar\n"
    b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RC\x08aaaaaaaa\x86R.",
    "less bytes than elements": b"\x80\x03cnumpy.core.numeric\n_frombuffer\n(C\x04abcd"
    b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85RK\x02\x85X\x01\x00\x00\x00CtR.",
    "a name of several lines": b"\x80\x04\x8c\x01a\x8c\x04\x1b\nbc\x93.",
    "something persistent": b"Vname\nQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "a list in itself": b"(lp0\ng0\na.",
    "bytes that are not there": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fabc.",
    "text": b"youtube_id,start_time_sec,end_time_sec\n",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_tricks_end_in_one_sentence(tmp_path, name):
    path = written(tmp_path, ATTACKS[name])
    with pytest.raises(InputError) as caught:
        read_pickle(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    # The names still mean what they did.
    assert read_pickle(written(tmp_path, pickle.dumps(np.arange(3)))).tolist() == [0, 1, 2]


def test_containers_can_be_too_deep(tmp_path):
    with pytest.raises(InputError, match="nested too deeply"):
        read_pickle(written(tmp_path, ATTACKS["a list in itself"]))


def test_a_damaged_number_takes_no_memory(tmp_path):
    """It says in which place of a list to keep None; a list of that length would have 64 MB."""
    path = written(tmp_path, b"\x80\x02Nr\x00\x00\x40\x00.")
    tracemalloc.start()
    try:
        assert read_pickle(path) is None
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_buffers_beside_the_file_are_missed(tmp_path):
    data = pickle.dumps(NUMBERS, 5, buffer_callback=lambda _: None)
    with pytest.raises(InputError, match="out-of-band"):
        read_pickle(written(tmp_path, data))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_truncated_file_is_noticed(tmp_path, protocol):
    data = pickle.dumps([{"video": NUMBERS.astype(np.uint8), "names": [b"abc"]}], protocol)
    for length in range(len(data)):
        with pytest.raises(InputError, match=r"set\.pkl"):
            read_pickle(written(tmp_path, data[:length]))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    protocol = data.draw(st.integers(0, 5))
    content = bytearray(pickle.dumps({"a": NUMBERS.astype(np.float32), "b": [b"x", "y"]}, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_pickle(written(folder, bytes(content)))
    except InputError as error:
        assert "\n" not in str(error)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pkl"):
        read_pickle(tmp_path / "nowhere.pkl")

"""Pickles of numpy arrays, read without executing anything that they name.

A pickle is a small program that may call any function of any module by its name. Here the few names that
arrays and plain containers need lead to functions of this file, which check what they are given; numpy's own
functions are not called either, since they trust the states of types and arrays that a file gives. Every
other name is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.video.container import reason

_TYPES = re.compile(r"[biuf][1248]|[SU][1-9][0-9]*|O8?")  # codes of dtypes: numbers, bytes, text, objects
_DEEPEST = 6  # containers in containers, more than any known file has
_GROWTH, _ROOM = 16, 1 << 20  # what is made of a pickle: so many times its bytes, and so many more


def read_pickle(path: Path) -> Any:
    """The content of a pickle of arrays, numpy scalars and plain containers, of protocol 0 to 5.

    Arrays made by numpy 1 and 2 are read, with numbers, bool, bytes, text or objects as elements. They share
    the memory of the bytes that were read, and may be read-only.

    Raises:
        InputError: The file is missing or no whole pickle, or it names anything else, which is not executed.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream, path.stat().st_size, str(path))
    except InputError:
        raise
    except Exception as error:  # broken pickles raise nearly anything
        raise InputError(
            f"{path} can't be read as a pickle of arrays ({reason(error)}): get the file again."
        ) from error


def loads(data: bytes, where: str) -> Any:
    """The content of such a pickle in memory.

    Args:
        data: the pickle.
        where: what the user calls the file that it is of, for messages.

    Raises:
        InputError: it names anything else than arrays and plain containers, which is not executed.
        Exception: of any kind, where it is no whole pickle.
    """
    return _read(io.BytesIO(data), len(data), where)


def _read(stream: BinaryIO, size: int, where: str) -> Any:
    return _resolved(_Reader(stream, size, where).load(), {})


class _Reader(pickle._Unpickler):
    """The unpickler that is written in Python: one damaged byte makes the one in C allocate 64 GB.

    It does as well here, where a file holds few objects, most of them large.
    """

    def __init__(self, stream: BinaryIO, size: int, where: str) -> None:
        super().__init__(stream)
        self._where, self._left = where, _ROOM + _GROWTH * size

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Name(self._counted(_NAMES[module, name]))
        except KeyError:
            asked = ascii(f"{module}.{name}")[1:-1]  # whatever it is, it must not command the terminal
            raise InputError(
                f"{self._where} has a pickle that asks to run {asked}, which is refused: only pickles of "
                "arrays, numbers, bytes, text and containers are read."
            ) from None

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("it names something by a number")

    def _counted(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """`make`, until all that was made is much larger than the file, which asks for copies of copies."""

        def counted(*arguments: Any) -> Any:
            made = make(*arguments)
            if isinstance(made, np.ndarray):  # one of numbers shares the memory of its bytes
                self._left -= 8 * made.size * made.dtype.hasobject
            elif isinstance(made, Sized):
                self._left -= len(made) * (1 if isinstance(made, (bytes, bytearray)) else 8)
            if self._left < 0:
                raise pickle.UnpicklingError("it grows without end")
            return made

        return counted


class _Name:
    """What a name in a pickle stands for; a pickle can call it, but not change it."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Type:
    """A dtype in the making: a pickle tells its code first, its byte order afterwards."""

    __slots__ = ("value",)

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _TYPES.fullmatch(code):
            raise pickle.UnpicklingError(f"it has an array of the type {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has the byte order {order!r}")
        self.value = self.value.newbyteorder(order)


class _Array:
    """An array in the making: a pickle makes it empty first, and fills it afterwards."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        self.value = _filled(content, kind, shape, "F" if fortran else "C")


def _filled(content: Any, kind: Any, shape: Any, order: str, axes: Any = None) -> NDArray[Any]:
    """An array of the type `kind` from its bytes, or from a list of objects."""
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError("it has an array without a type")
    flat: NDArray[Any]
    if kind.value.hasobject:
        if not isinstance(content, list):
            raise pickle.UnpicklingError("it has an array of objects that are not a list")
        flat = np.empty(len(content), object)
        for index, value in enumerate(content):  # a slice would take lists apart
            flat[index] = value
    elif isinstance(content, (bytes, bytearray)):
        flat = np.frombuffer(content, kind.value) if len(content) else np.empty(0, kind.value)
    else:
        raise pickle.UnpicklingError("it has an array without bytes")
    if order == "K" and axes is not None:  # numpy 2.4: axes in any order
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, content: Any) -> Any:
    return _filled(content, kind, (1,), "C")[0]


def _bytes_of_text(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise pickle.UnpicklingError(f"it has bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


def _bytes(value: bytes | str = b"", *_: str) -> bytes:
    """Bytes or the text that stands for them; a number or another object would be a trick."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, (bytes, bytearray)):
        raise pickle.UnpicklingError(f"it makes bytes of {type(value).__name__}")
    return bytes(value)


def _no_instance(*_: Any) -> Any:
    raise pickle.UnpicklingError("it makes an array directly")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _no_instance,  # only named, as the first argument of _reconstruct
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _bytes_of_text,
    ("collections", "OrderedDict"): dict,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Array
    _NAMES[f"{_core}.multiarray", "scalar"] = _scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _filled
for _builtins in ("builtins", "__builtin__"):  # Python 3, and protocol 2 in the words of Python 2
    _NAMES[_builtins, "bytes"] = _bytes
    _NAMES[_builtins, "bytearray"] = _bytes
    _NAMES[_builtins, "set"] = set
    _NAMES[_builtins, "frozenset"] = frozenset
for _frozen in ("core.indexes.frozen", "core.base", "indexes.base", "indexes.frozen"):  # of pandas 3 to 0.15
    _NAMES[f"pandas.{_frozen}", "FrozenList"] = list


def _resolved(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """The same value with the arrays that were made in it; what is in it twice is made once, as it was."""
    if depth > _DEEPEST:
        raise pickle.UnpicklingError("it is nested too deeply")
    if not isinstance(value, (_Array, np.ndarray, dict, list, tuple)):
        return value
    if id(value) not in done:
        done[id(value)] = _made(value, done, depth)
    return done[id(value)]


def _made(value: Any, done: dict[int, Any], depth: int) -> Any:
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("it has an array that was never filled")
        return _resolved(value.value, done, depth + 1)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            for index in np.ndindex(value.shape):
                value[index] = _resolved(value[index], done, depth + 1)
        return value
    if isinstance(value, dict):
        return {key: _resolved(inner, done, depth + 1) for key, inner in value.items()}
    return type(value)(_resolved(inner, done, depth + 1) for inner in value)

"""Numeric arrays of MATLAB files (version 5, which `save` writes without options but -v7.3).

scipy's reader is compiled and trusts the file: a damaged one can crash the process. This one reads only what
JHMDB needs, real numeric arrays, and checks every length.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = 128
MOST = 2**28  # bytes of one array, decompressed
MATRIX, COMPRESSED = 14, 15
# Types of elements and how numpy calls them.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC = range(6, 16)  # classes of arrays: double, single, and integers
COMPLEX = 0x08


class Damaged(ValueError):
    """The file isn't what it says; the message says why."""


def read_array(path: Path, name: str) -> NDArray[np.float64] | None:
    """The numeric array of that name, float64, as MATLAB shows it; None if there is none.

    Raises:
        Damaged: it is no such file, or is damaged before the array's end.
        OSError: it can't be read.
    """
    data = path.read_bytes()
    mark = data[126:128]
    if len(data) < HEADER or mark not in (b"IM", b"MI"):
        raise Damaged("it is no MATLAB file of version 5")
    order = "<" if mark == b"IM" else ">"
    for kind, body in _elements(data[HEADER:], order):
        if kind == COMPRESSED:
            kind, body = next(_elements(_inflated(body), order), (0, b""))
        if kind == MATRIX:
            found = _array(body, order, name)
            if found is not None:
                return found
    return None


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Types and bodies of the elements that follow each other."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, place)
        if kind >> 16:  # a small element: its size is in the upper half, its body in the tag
            kind, size, begin, step = kind & 0xFFFF, kind >> 16, place + 4, 8
            if size > 4:
                raise Damaged("an element is longer than it can be")
        else:
            begin = place + 8
            step = 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if begin + size > len(data):
            raise Damaged("it breaks off")
        yield kind, data[begin : begin + size]
        place += step


def _inflated(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(body, MOST)
    except zlib.error as error:
        raise Damaged(f"its compressed data are damaged ({error})") from error
    if stream.unconsumed_tail:
        raise Damaged(f"an array has more than {MOST} bytes")
    return data


def _array(body: bytes, order: str, name: str) -> NDArray[np.float64] | None:
    """The array, if it has that name."""
    parts = _elements(body, order)
    (_, flags), (_, dims), (_, own_name) = (next(parts, (0, b"")) for _ in range(3))
    if own_name.decode("latin-1") != name:
        return None
    if len(flags) != 8 or not dims or len(dims) % 4:
        raise Damaged(f"{name} has no size")
    word = struct.unpack_from(order + "I", flags)[0]
    if word & 0xFF not in NUMERIC or word >> 8 & COMPLEX:
        raise Damaged(f"{name} is no array of real numbers")
    shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    kind, values = next(parts, (0, b""))
    if kind not in NUMBERS:
        raise Damaged(f"{name} has no numbers")
    dtype = np.dtype(order + NUMBERS[kind])
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise Damaged(f"{name} has another size than it says")
    return np.frombuffer(values, dtype).astype(np.float64).reshape(shape, order="F")

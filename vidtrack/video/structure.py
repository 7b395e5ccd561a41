"""Whether the structure of a video file is whole: demuxers step over a broken place without a word.

Only lengths and marks are looked at, never pictures, so that it costs little beside decoding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675  # elements of Matroska that hold others
_PARENTS = frozenset({_SEGMENT, _CLUSTER})
_TS = ((188, 0), (192, 4), (204, 0))  # length of a packet of a transport stream, and where in it its mark is
_TS_PACKETS, _BLOCK = 1 << 16, 1 << 20  # packets and bytes that are read at a time


def is_broken(path: Path, format_name: str) -> bool:
    """Whether parts of a file are missing or unreadable; False where that can't be told.

    Args:
        path: the file.
        format_name: of its demuxer, in FFmpeg's words.
    """
    checks: dict[str, Callable[[BinaryIO, int], bool]] = {
        "matroska,webm": lambda file, size: _elements_end(file, 0, size) != size,
        "mov,mp4,m4a,3gp,3g2,mj2": _boxes_broken,
        "mpegts": _packets_broken,
    }
    if format_name not in checks:
        return False
    try:
        with path.open("rb") as file:
            return checks[format_name](file, os.fstat(file.fileno()).st_size)
    except OSError:  # it vanished meanwhile
        return False


def gif_is_short(path: Path, images: int) -> bool:
    """Whether a GIF holds more than the images that were read, or its blocks don't lead to its end."""
    try:
        with path.open("rb") as file:
            found = _gif_images(file)
    except OSError:  # it vanished meanwhile
        return False
    return found is None or found > images


def _gif_images(file: BinaryIO) -> int | None:
    """The number of images, None if the blocks don't lead to the mark of the end."""
    head = file.read(13)
    if len(head) < 13:
        return None
    file.seek(_table(head[10]), os.SEEK_CUR)
    images = 0
    while kind := file.read(1):
        if kind == b";":
            return images
        if kind == b"\0":  # what some programs put between blocks
            continue
        if kind == b",":
            images += 1
            about = file.read(9)
            file.seek((_table(about[8]) if len(about) == 9 else 0) + 1, os.SEEK_CUR)
        elif kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            return None
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return None


def _table(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _elements_end(file: BinaryIO, place: int, end: int, parents: frozenset[int] = _PARENTS) -> int | None:
    """Where the elements of Matroska from `place` on end, None if they are broken before `end` (RFC 8794)."""
    while place < end:
        file.seek(place)
        head = file.read(12)
        number = _integer(head, keep_mark=True)
        length = None if number is None else _integer(head[number[1] :])
        if number is None or length is None:
            return None
        begin = place + number[1] + length[1]
        unknown = length[0] == (1 << 7 * length[1]) - 1
        if unknown and number[0] in parents:  # of a live recording: its children follow as if they were ours
            place = begin
            continue
        place = begin + length[0]
        if unknown or place > end:
            return None
        inside = _PARENTS - {_SEGMENT, number[0]}  # no more than two levels, whatever the file says
        if number[0] in parents and _elements_end(file, begin, place, inside) != place:
            return None
    return place


def _integer(data: bytes, keep_mark: bool = False) -> tuple[int, int] | None:
    """An integer of Matroska and its bytes; the zeros before its first bit tell how many there are."""
    if not data or not data[0]:
        return None
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big")
    if len(data) < width:
        return None
    return value if keep_mark else value & ((1 << 7 * width) - 1), width


def _boxes_broken(file: BinaryIO, size: int) -> bool:
    """Whether the outer boxes of an MP4 are not laid end to end (ISO/IEC 14496-12)."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        if not any(head):
            rest = iter(lambda: file.read(_BLOCK), b"")
            return any(any(block) for block in rest)  # zeros to fill a file are harmless
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the length did not fit
            length = int.from_bytes(head[8:], "big")
        if length == 0 and head[4:8] == b"mdat":  # to the end of the file
            return False
        if len(head) < 8 or length < 8 or not head[4:8].isascii():
            return True
        place += length
    return place != size


def _packets_broken(file: BinaryIO, size: int) -> bool:
    """Whether a transport stream does not consist of whole packets (ISO/IEC 13818-1)."""
    head = file.read(408)
    found = [(n, at) for n, at in _TS if len(head) > n + at and head[at] == head[n + at] == 0x47]
    if not found or size % found[0][0]:
        return True
    length, at = found[0]
    file.seek(0)
    while block := file.read(length * _TS_PACKETS):
        packets = np.frombuffer(block, np.uint8).reshape(-1, length)
        if (packets[:, at] != 0x47).any() or (packets[:, at + 1] & 0x80).any():  # lost, or marked as broken
            return True
    return False

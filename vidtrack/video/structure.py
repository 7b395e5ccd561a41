"""Whether the structure of a video file is whole: demuxers step over a broken place without a word.

Only lengths and marks are looked at, never pictures, so that it costs little beside decoding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidtrack.video import matroska, mp4
from vidtrack.video.avi import avi_is_broken

_TS = ((188, 0), (192, 4), (204, 0))  # length of a packet of a transport stream, and where in it its mark is
_TS_PACKETS = 1 << 16  # that are read at a time


def is_broken(path: Path, format_name: str, packets: int | None = None) -> bool:
    """Whether parts of a file are missing or unreadable; False where that can't be told.

    Args:
        path: the file.
        format_name: of its demuxer, in FFmpeg's words.
        packets: of the video that the demuxer found in the whole file, if it was read.
    """
    checks: dict[str, Callable[[BinaryIO, int], bool]] = {
        matroska.FORMAT: lambda file, size: matroska.matroska_is_broken(file, size, packets),
        mp4.FORMAT: lambda file, size: mp4.mp4_is_broken(file, size, packets),
        "avi": avi_is_broken,
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

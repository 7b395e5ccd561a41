"""Whether the pictures and sounds of an AVI are laid end to end; see `vidtrack.video.structure`."""

from __future__ import annotations

import re
from typing import BinaryIO

_CHUNK = re.compile(rb"\d\d(db|dc|wb|pc|tx|sb|iv|__)|ix\d\d|\d\dix|JUNK|JUNQ|rec ")
_LISTS = (b"RIFF", b"LIST")


def avi_is_broken(file: BinaryIO, size: int) -> bool:
    """Whether a list `movi` holds something else, or what it holds does not fill it.

    Demuxers go by the index at the end, or look for the next name that they know: a wrong length or name
    loses what it belongs to, without an error.

    Args:
        file: open for reading.
        size: its bytes.
    """
    place, found = 0, False
    while place + 8 <= size:
        name, length, kind = _head(file, place)
        if not name.strip().isalnum():  # what some programs put behind it all
            break
        if kind == b"movi":
            found, end = True, place + 8 + length
            place = _filled(file, place + 12, end) if end <= size else -1
            if place < 0:
                return True
        else:
            place += 12 if name == b"RIFF" else 8 + length + length % 2
    return place > size + 1 or not found


def _filled(file: BinaryIO, place: int, end: int) -> int:
    """Where the chunks from `place` on end; -1 where they don't fill the list."""
    while place + 8 <= end:
        name, length, kind = _head(file, place)
        if not _CHUNK.fullmatch(kind if name == b"LIST" else name):
            return -1
        place += 12 if name == b"LIST" else 8 + length + length % 2
    return place if place in (end, end + 1) else -1


def _head(file: BinaryIO, place: int) -> tuple[bytes, int, bytes]:
    """Name and length of a chunk, and of a list its kind."""
    file.seek(place)
    head = file.read(12)
    name = head[:4]
    return name, int.from_bytes(head[4:8], "little"), head[8:12] if name in _LISTS else b""

"""Whether a Matroska or WebM file is whole (RFC 8794, RFC 9559); see `vidtrack.video.structure`.

Its elements must be laid end to end. Where a block names no track, or its head is wrong in another way,
FFmpeg leaves out the rest of its cluster without an error: so blocks are counted, and their tracks looked at.
"""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO

FORMAT = "matroska,webm"  # the demuxer, in FFmpeg's words
_SEGMENT, _CLUSTER, _GROUP, _TRACKS, _ENTRY = 0x18538067, 0x1F43B675, 0xA0, 0x1654AE6B, 0xAE
_BLOCKS = frozenset({0xA1, 0xA3})  # in a group, and on its own
_NUMBER, _TYPE, _VIDEO = 0xD7, 0x83, 1  # of a track
_NUMBERS = frozenset({0xE7, 0xA7, 0xAB})  # time, place and length of the cluster before: 8 bytes at most
_ANYWHERE = frozenset({0xEC, 0xBF})  # nothing, and a checksum
# What a cluster and a segment hold besides; the last are the index of what, of when, about all, more files,
# chapters, and tags. A name that is none of them was another before: demuxers step over it.
_OF_CLUSTER = _NUMBERS | _ANYWHERE | {_GROUP, 0xA3, 0x5854, 0xAF}
_OF_SEGMENT = (
    _ANYWHERE | {_CLUSTER, _TRACKS} | {0x114D9B74, 0x1C53BB6B, 0x1549A966, 0x1941A469, 0x1043A770, 0x1254C367}
)
# The length of a segment or cluster may be unknown: then its content follows as if it were beside it.
_OPEN = frozenset({_SEGMENT, _CLUSTER})
_KNOWN = {
    None: _OF_SEGMENT | _OF_CLUSTER | {_SEGMENT, 0x1A45DFA3},
    _SEGMENT: _OF_SEGMENT | _OF_CLUSTER,
    _CLUSTER: _OF_CLUSTER,
}
_INSIDE = {  # elements that are looked into, by where they are
    None: frozenset({_SEGMENT, _CLUSTER, _TRACKS, _GROUP}),
    _SEGMENT: frozenset({_CLUSTER, _TRACKS, _GROUP}),
    _CLUSTER: frozenset({_GROUP}),
    _TRACKS: frozenset({_ENTRY}),
}
_SMALLEST = 4  # bytes of the elements of a file, on average: smaller ones are there to keep readers busy
_TRACKS_AT_MOST = 1000
_HEAD = 20  # bytes: name, length and the first number of an element


def matroska_is_broken(file: BinaryIO, size: int, packets: int | None = None) -> bool:
    """Whether elements are broken, a block is of no track, or blocks got lost.

    Args:
        file: open for reading.
        size: its bytes.
        packets: that a demuxer found of the video; None: it was not asked for all.
    """
    walk = _Walk(file, size // _SMALLEST + 1000)
    if walk.end(0, size) != size:
        return True
    if not walk.types:  # a demuxer finds them elsewhere, or nothing
        return False
    videos = [walk.blocks[number] for number, kind in walk.types.items() if kind == _VIDEO]
    lost = packets is not None and bool(videos) and packets < min(videos)
    return lost or not walk.blocks.keys() <= walk.types.keys()


class _Walk:
    """Through the elements of a file.

    Args:
        file: open for reading.
        most: elements that are looked at; a file that has more counts as broken.

    Attributes:
        types: of the tracks, by their numbers.
        blocks: how many there are of each track.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.types: dict[int, int] = {}
        self.blocks: Counter[int] = Counter()
        self._file, self._left, self._seen = file, most, 0
        self._about: dict[int, int] = {}  # numbers that a track tells of itself, by the element

    def end(self, place: int, end: int, parent: int | None = None) -> int | None:
        """Where the elements of a parent from `place` on end, None if they are broken before `end`."""
        inside, known = _INSIDE.get(parent, frozenset()), _KNOWN.get(parent)
        while place < end:
            self._left -= 1
            self._file.seek(place)
            head = self._file.read(_HEAD)
            number = _integer(head, keep_mark=True)
            length = None if number is None else _integer(head[number[1] :])
            if number is None or length is None or self._left < 0 or (known and number[0] not in known):
                return None
            kind, content = number[0], head[number[1] + length[1] :]
            begin = place + number[1] + length[1]
            unknown = length[0] == (1 << 7 * length[1]) - 1
            if unknown and kind in inside & _OPEN:
                place = begin
                continue
            place = begin + length[0]
            if unknown or place > end or (known and kind in _NUMBERS and length[0] > 8):
                return None
            before = self._seen
            if kind in inside and self.end(begin, place, kind) != place:
                return None
            if kind == _GROUP and self._seen == before:
                return None
            if kind in _BLOCKS:
                track = _integer(content[: length[0]])
                if track is None or len(self.blocks) > _TRACKS_AT_MOST:
                    return None
                self.blocks[track[0]] += 1
                self._seen += 1
            elif kind in (_NUMBER, _TYPE):
                self._about[kind] = int.from_bytes(content[: min(8, length[0])], "big")
            elif kind == _ENTRY:
                self.types[self._about.pop(_NUMBER, 0)] = self._about.pop(_TYPE, 0)
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

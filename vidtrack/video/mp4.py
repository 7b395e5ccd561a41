"""Whether the boxes of an MP4 or MOV file are whole (ISO/IEC 14496-12); see `vidtrack.video.structure`.

Boxes must be laid end to end. In a file of fragments, demuxers step over a box whose name they don't know,
and over a fragment of no track, with all of its pictures: there, names and tracks are looked at, and the
samples that the fragments promise are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO

FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"  # the demuxer, in FFmpeg's words
_BLOCK = 1 << 20  # bytes that are read at a time
_LARGEST = 1 << 24  # bytes of a box that is looked into: those of an hour have a hundredth of it
_INSIDE = {b"moov": b"trak", b"trak": b"mdia", b"moof": b"traf"}  # what is looked into, in what
_FRAGMENT = {  # names of boxes in fragments
    b"moof": {b"mfhd", b"traf", b"pssh"},
    b"traf": set(b"tfhd tfdt trun sbgp sgpd subs saiz saio senc sdtp".split()),
}
_ANYWHERE = set(b"free skip uuid meta udta".split())
_TOP = _ANYWHERE | set(b"ftyp styp moov moof mdat sidx ssix mfra wide prft emsg pdin".split())


class Mp4:
    """What the boxes of a file say, without its samples.

    Args:
        file: open for reading.
        size: its bytes.

    Attributes:
        broken: they are not laid end to end, or a fragment has what it can't have.
        fragments: the file has fragments, or announces them.
        samples: pictures that the fragments of the first video track promise.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._handlers: dict[int, bytes] = {}  # kind of each track, by its number
        self._track = 0
        self._counts: Counter[int] = Counter()
        self._strange = False
        self.fragments = False
        self.broken = not self._walk_top(size) or (self.fragments and self._strange)
        self.broken |= not self._counts.keys() <= self._handlers.keys()
        videos = [number for number, kind in self._handlers.items() if kind == b"vide"]
        self.samples = self._counts[videos[0]] if videos else 0

    def _walk_top(self, size: int) -> bool:
        """Look at the outer boxes; False if they don't fill the file."""
        place = 0
        while place < size:
            self._file.seek(place)
            head = self._file.read(16)
            if not any(head):
                rest = iter(lambda: self._file.read(_BLOCK), b"")
                return not any(any(block) for block in rest)  # zeros to fill a file are harmless
            length, begin, name = int.from_bytes(head[:4], "big"), 8, head[4:8]
            if length == 1:  # it did not fit
                length, begin = int.from_bytes(head[8:], "big"), 16
            if length == 0 and name == b"mdat":  # to the end of the file
                return True
            if len(head) < 8 or length < begin or not name.isascii():
                return False
            self._strange |= name not in _TOP
            self.fragments |= name == b"moof"
            if name in (b"moov", b"moof") and place + length <= size and length <= _LARGEST:
                self._file.seek(place + begin)
                self._strange |= not self._walk(name, self._file.read(length - begin))
            place += length
        return place == size

    def _walk(self, parent: bytes, data: bytes) -> bool:
        """Look at the boxes in one; False if they don't fill it, or can't be there."""
        place, whole = 0, True
        while place + 8 <= len(data):
            length, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
            if length < 8 or place + length > len(data):
                return False
            content = data[place + 8 : place + length]
            known = _FRAGMENT.get(parent)
            whole &= known is None or name in known | _ANYWHERE
            if name == _INSIDE.get(parent):
                whole &= self._walk(name, content)
            self._note(parent, name, content)
            place += length
        return whole and place == len(data)

    def _note(self, parent: bytes, name: bytes, content: bytes) -> None:
        """Remember what a box says."""
        if name == b"mvex":
            self.fragments = True
        elif name == b"tkhd" and parent == b"trak":
            at = 20 if content[:1] == b"\1" else 12  # its times have 8 bytes, or 4
            self._track = int.from_bytes(content[at : at + 4], "big")
        elif name == b"hdlr" and parent == b"mdia":
            self._handlers[self._track] = content[8:12]
        elif name == b"tfhd":
            self._track = int.from_bytes(content[4:8], "big")
            self._counts[self._track] += 0
        elif name == b"trun":
            self._counts[self._track] += int.from_bytes(content[4:8], "big")

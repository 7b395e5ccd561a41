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


def mp4_is_broken(file: BinaryIO, size: int, packets: int | None = None) -> bool:
    """Whether boxes are broken, a fragment has what it can't have, or samples of fragments got lost.

    Args:
        file: open for reading.
        size: its bytes.
        packets: that a demuxer found of the video; None: it was not asked for all.
    """
    walk = _Walk(file)
    if not walk.fills(size) or (walk.fragments and walk.strange):
        return True
    if not walk.handlers:  # the head is too large to be looked into
        return False
    videos = [walk.samples[number] for number, kind in walk.handlers.items() if kind == b"vide"]
    lost = packets is not None and bool(videos) and packets < videos[0]
    return lost or not walk.samples.keys() <= walk.handlers.keys()


class _Walk:
    """Through the boxes of a file.

    Attributes:
        handlers: kind of each track, by its number.
        samples: how many the fragments of each track promise.
        fragments: the file has fragments, or announces them.
        strange: there is a box that a file of fragments can't have.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._track = file, 0
        self.handlers: dict[int, bytes] = {}
        self.samples: Counter[int] = Counter()
        self.fragments = self.strange = False

    def fills(self, size: int) -> bool:
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
            self.strange |= name not in _TOP
            self.fragments |= name == b"moof"
            if name in (b"moov", b"moof") and place + length <= size and length <= _LARGEST:
                self._file.seek(place + begin)
                self.strange |= not self._inside(name, self._file.read(length - begin))
            place += length
        return place == size

    def _inside(self, parent: bytes, data: bytes) -> bool:
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
                whole &= self._inside(name, content)
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
            self.handlers[self._track] = content[8:12]
        elif name == b"tfhd":
            self._track = int.from_bytes(content[4:8], "big")
            self.samples[self._track] += 0
        elif name == b"trun":
            self.samples[self._track] += int.from_bytes(content[4:8], "big")

"""What is known of the pictures of a file by their numbers, and how far packets alone tell it."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from av.packet import Packet
from av.video.stream import VideoStream

from vidtrack.video.container import open_video, stream_start
from vidtrack.video.decode import Damage, numbered_by_order, packets

# Codecs whose key pictures need nothing that came before. Others are read from the beginning: gif, for one,
# draws on the picture before it whatever its flags say.
_ONE_EACH = {"h264", "hevc", "mpeg4", "vp9", "av1", "libdav1d", "mjpeg", "prores", "ffv1"}
SEEKABLE = _ONE_EACH | {"mpeg2video", "vp8"}  # of these, not every packet gives a picture
_NOT_CODED = 8  # bytes; smaller packets of mpeg4 may only say that the picture stays
_LENGTH_AT = {"h264": 4, "hevc": 21}  # byte of the mp4 header whose last two bits are a length's bytes - 1
_LOOK = 256  # packets after which to look whether enough is known


class Entry(NamedTuple):
    """One picture of a file.

    Attributes:
        pts: its presentation timestamp, None where the container tells none.
        time: seconds, as the reader gives them.
        damaged: as the reader marks it.
        start: decoding may begin at it.
        packet: number of its packet in the stream; None where it was not looked at.
    """

    pts: int | None
    time: Fraction
    damaged: bool
    start: bool
    packet: int | None


def by_packets(path: Path, number: int) -> list[Entry] | None:
    """The pictures 0 to at least `number` (or all, if there are fewer), without decoding any.

    None where packets and pictures can't be matched with certainty: other codecs, AVI files with reordered
    frames, missing or doubled timestamps, edit lists, damage that the container knows of. What only a decoder
    can know is not known here.

    Raises:
        InputError: the file can't be opened.
    """
    container, stream = open_video(path)
    try:
        if stream.codec_context.name not in _ONE_EACH or numbered_by_order(container, stream):
            return None
        damage = Damage()
        known = _known(packets(container, stream, damage), stream, number)
        if known is None or damage.torn or not known:
            return None
        base, start = stream.time_base or Fraction(0), stream_start(stream)
    finally:
        container.close()
    known.sort()
    if len({pts for pts, *_ in known}) < len(known):
        return None
    return [Entry(pts, pts * base - start, False, key, packet) for pts, key, packet in known]


def _known(
    source: Iterable[Packet | None], stream: VideoStream, number: int
) -> list[tuple[int, bool, int]] | None:
    """Timestamp, key flag and place of the packets up to picture `number`; None where one is not sure."""
    known: list[tuple[int, bool, int]] = []
    decoded: int | None = None  # decoding timestamp of the packet before
    for place, packet in enumerate(source):
        if packet is None:
            break
        if packet.pts is None or packet.is_discard or packet.is_corrupt or _gives_none(packet, stream):
            return None
        if packet.dts is not None:
            if (decoded is not None and packet.dts <= decoded) or packet.dts > packet.pts:
                return None
            decoded = packet.dts
        # What is shown before the time at which later packets are decoded is complete.
        if place % _LOOK == 0 and decoded is not None and place > number:
            shown = [entry for entry in known if entry[0] < decoded]
            if len(shown) > number:
                return shown
        known.append((packet.pts, bool(packet.is_keyframe), place))
    return known


def _gives_none(packet: Packet, stream: VideoStream) -> bool:
    """Whether a packet may give no picture: by its kind, or because its structure is broken."""
    codec, data = stream.codec_context.name, memoryview(packet)
    if codec == "mpeg4":
        return packet.size < _NOT_CODED
    if codec == "vp9":
        if data[-1] & 0xE0 == 0xC0:  # a superframe: hidden pictures come with a shown one
            return False
        # marker (2 bits), profile (2, or 3 for profile 3), show_existing_frame, frame_type, show_frame
        bits = f"{data[0]:08b}{data[min(1, len(data) - 1)]:08b}"[5 if data[0] >> 4 & 3 == 3 else 4 :]
        return bits[0] == "0" and bits[2] == "0"
    extra = stream.codec_context.extradata or b""
    if codec in _LENGTH_AT and len(extra) > _LENGTH_AT[codec] and extra[0] == 1:  # else: start codes
        return not _holds_slice(data, 1 + (extra[_LENGTH_AT[codec]] & 3), codec)
    return False


def _holds_slice(data: memoryview, width: int, codec: str) -> bool:
    """Whether units, each after its length in `width` bytes, fill a packet, and one is part of a picture."""
    place, found = 0, False
    while place + width < len(data):
        length = int.from_bytes(data[place : place + width], "big")
        head = data[place + width]
        found |= 1 <= head & 31 <= 5 if codec == "h264" else head >> 1 < 32
        place += width + length
        if head >> 7 or not length:
            return False
    return found and place == len(data)

"""Decoding one video stream to pictures in presentation order, going on after damage.

A packet that can't be decoded leaves a gap. The gap is filled by repeating the picture before it, so that
frame numbers, times and sound stay in step. Where the container tells presentation timestamps, a gap is
placed by them: FFmpeg raises an error for one packet, but may then silently drop all frames that were
predicted from it, and those are gaps too. Packets that give no frame in an undamaged stretch are none (hidden
frames, leading pictures of an open group, samples cut off by an edit list).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from vidtrack.video.container import stream_start

MAX_READ_ERRORS = 20  # in a row; some demuxers find the next packet after an error, others stand still


@dataclass
class Picture:
    """A decoded picture, not yet RGB.

    Attributes:
        picture: as decoded.
        time: seconds since the start of the stream.
        damaged: decoded in part, or a repetition of the picture before.
        pts: its presentation timestamp, None where the container tells none that can be trusted.
        start: decoding may begin at it: a good key picture.
        packet: number of its packet in the stream, if it is a start.
        doubtful: decoded, but perhaps from what was damaged: no key picture came since.
    """

    picture: av.VideoFrame
    time: Fraction
    damaged: bool
    pts: int | None = None
    start: bool = False
    packet: int | None = None
    doubtful: bool = False


@dataclass
class Damage:
    """What went wrong while a stream was decoded.

    Attributes:
        frames: pictures handed out, those marked damaged among them.
        damaged: pictures that were repeated or decoded in part.
        doubtful: the other pictures from one of these to the next key picture.
        lost_first: frames before the first picture that could be decoded; they are not handed out.
        packets: packets read.
        empty: packets besides that hold nothing: the picture stays.
        torn: a packet was cut short, the file could not be read on at some place, or its structure is broken.
        complete: reading came to the end of the file.
        early: the file ends before what its header promises; known when all of it was read.
        hidden: frames that the file holds and doesn't show; known then, too.
        unseen: packets after the first picture whose time passed without a picture or an error.
    """

    frames: int = 0
    damaged: int = 0
    doubtful: int = 0
    lost_first: int = 0
    packets: int = 0
    empty: int = 0
    torn: bool = False
    complete: bool = False
    early: bool = False
    hidden: int = 0
    unseen: int = 0

    def __bool__(self) -> bool:
        """Whether anything is known to be wrong."""
        return bool(self.damaged or self.lost_first or self.torn or self.early)


@dataclass
class _Clock:
    """Strictly increasing times from the timestamps that a stream has."""

    stream: VideoStream
    step: Fraction  # seconds of a frame, used where timestamps are missing or run backwards
    by_decoding_order: bool  # the timestamps number the packets, not the pictures (AVI)
    first: int | None = None
    last: Fraction | None = None

    def time(self, pts: int | None, dts: int | None) -> Fraction:
        stamp = dts if self.by_decoding_order else pts
        time = None
        if stamp is not None and self.stream.time_base:
            if self.by_decoding_order:
                self.first = stamp if self.first is None else self.first
                time = (stamp - self.first) * self.stream.time_base
            else:
                time = stamp * self.stream.time_base - stream_start(self.stream)
        if self.last is not None and (time is None or time <= self.last):
            time = self.last + self.step
        self.last = Fraction(0) if time is None else time
        return self.last


@dataclass
class _Waiting:
    """Timestamps of packets whose picture has not come out yet."""

    stamps: list[int] = field(default_factory=list)
    filled: set[int] = field(default_factory=set)  # gaps that were handed out as repetitions
    unseen: set[int] = field(default_factory=set)  # gaps that were not: nothing told of an error
    first: int | None = None  # timestamp of the first picture
    failed_until: int | None = None  # newest timestamp hit by an error since the last good key frame

    def add(self, pts: int) -> None:
        heapq.heappush(self.stamps, pts)

    def fail(self, pts: int) -> None:
        self.failed_until = pts if self.failed_until is None else max(pts, self.failed_until)

    def gaps(self, pts: int | None) -> list[int]:
        """Timestamps of the pictures lost before the one at `pts` (None: before the end of the stream)."""
        passed = []
        while self.stamps and (pts is None or self.stamps[0] <= pts):
            stamp = heapq.heappop(self.stamps)
            if stamp != pts:
                passed.append(stamp)
        if self.failed_until is None:
            # What is shown before the first picture needs, perhaps, what comes before it in a longer file.
            self.unseen.update(stamp for stamp in passed if self.first is not None and stamp > self.first)
            return []
        self.filled.update(passed)
        return passed

    def recover(self, pts: int) -> None:
        """A good key frame came out: what is missing after it was not lost to the error before."""
        if self.failed_until is not None and pts > self.failed_until:
            self.failed_until = None


def decode(
    container: InputContainer,
    stream: VideoStream,
    step: Fraction,
    damage: Damage,
    source: Iterable[Packet | None] | None = None,
) -> Iterator[Picture]:
    """Yield the pictures of a stream from its beginning; `damage` is filled meanwhile.

    One pass over one demuxer and one decoder that is flushed at the end: starting a new decoding generator
    loses the frames that the decoder still holds.

    Args:
        container: a freshly opened file.
        stream: its video stream.
        step: seconds per frame where timestamps are missing.
        damage: is told what went wrong; never raises for a damaged stream.
        source: packets to decode, None after the last; those of the whole file if left out.
    """
    by_order = numbered_by_order(container, stream)
    clock, waiting = _Clock(stream, step, by_order), _Waiting()
    keys: dict[int, int] = {}  # timestamps of key packets whose picture has not come out yet -> their number
    previous: av.VideoFrame | None = None
    doubtful = False  # something was damaged since the last good key picture

    def handed_out(
        picture: av.VideoFrame | None, pts: int | None, dts: int | None, damaged: bool
    ) -> Iterator[Picture]:
        nonlocal doubtful
        whole = picture is not None and not damaged and is_key(picture)
        doubtful = (doubtful or damaged) and not whole
        if picture is None:  # nothing to repeat yet
            damage.lost_first += 1
            return
        damage.frames += 1
        damage.damaged += damaged
        damage.doubtful += doubtful and not damaged
        packet = keys.pop(pts, None) if pts is not None else None
        start = packet is not None and whole
        yield Picture(
            picture,
            clock.time(pts, dts),
            damaged,
            pts,
            start,
            packet if start else None,
            doubtful and not damaged,
        )

    for packet in packets(container, stream, damage) if source is None else source:
        stamp = None if by_order or packet is None else packet.pts
        if packet is not None and stamp is not None and not packet.is_discard:
            waiting.add(stamp)
            if packet.is_keyframe:
                keys[stamp] = damage.packets - 1
            if packet.is_corrupt:
                waiting.fail(stamp)
        failed = False
        try:
            # Anything that broken data makes PyAV raise means the same: this packet gives no picture.
            pictures = stream.codec_context.decode(packet)
        except Exception:
            failed, pictures = True, []
        if failed and packet is not None:
            if stamp is not None:
                waiting.fail(stamp)
            else:
                yield from handed_out(previous, None, packet.dts, True)
        for picture in pictures:
            pts = None if by_order else picture.pts
            if pts in waiting.filled:
                continue  # it comes too late: after damage, decoders may lose the order too
            if pts is not None:
                waiting.first = pts if waiting.first is None else waiting.first
                waiting.unseen.discard(pts)  # it comes late, but it comes
                for gap in waiting.gaps(pts):
                    yield from handed_out(previous, gap, None, True)
                if picture.key_frame and not picture.is_corrupt:
                    waiting.recover(pts)
            previous = picture
            yield from handed_out(picture, pts, picture.dts, bool(picture.is_corrupt))
    for gap in waiting.gaps(None):
        yield from handed_out(previous, gap, None, True)
    damage.complete, damage.unseen = True, len(waiting.unseen)


def numbered_by_order(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the timestamps number the packets: those of an AVI with reordered frames say nothing else."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def is_key(picture: av.VideoFrame) -> bool:
    """Whether a picture needs no other one: gradual refresh marks predicted pictures as key pictures too."""
    return bool(picture.key_frame) and picture.pict_type == PictureType.I


def packets(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[Packet | None]:
    """The stream's packets, then None to flush the decoder; goes on after errors of the demuxer."""
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                # An empty packet is the demuxer's mark of the end, or an AVI's mark that the picture stays
                # (its time passes all the same). To the decoder both would mean: flush now.
                if packet.size:
                    errors = 0
                    damage.packets += 1
                    damage.torn |= bool(packet.is_corrupt)
                    yield packet
                else:
                    damage.empty += packet.dts is not None
            break
        except Exception:  # whatever broken data makes PyAV raise
            errors += 1
            damage.torn = True
    yield None

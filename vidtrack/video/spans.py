"""Looking into a video by time: its key pictures alone, or all pictures of a span."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from pretrain.errors import InputError
from vidtrack.video.colour import to_rgb
from vidtrack.video.container import ends_early, open_video, reason, stream_duration, stream_start
from vidtrack.video.decode import Damage, Picture, decode, is_key, numbered_by_order, packets
from vidtrack.video.entries import SEEKABLE
from vidtrack.video.folder import Folder
from vidtrack.video.frame import DEFAULT_RATE, VideoInfo
from vidtrack.video.source import FileSource
from vidtrack.video.structure import is_broken

_NEAR = 1  # seconds: what begins so soon is decoded to, not sought
_EARLIER = (0, 2, 10)  # seconds before a time to seek to: some containers come to a place behind it

Size = tuple[int, int]  # width, height


@dataclass(frozen=True, eq=False)
class Sight:
    """One undamaged picture, not yet RGB.

    Attributes:
        time: seconds since the start of the stream, as of `Frame`.
        rgb: makes uint8 `[H, W, 3]` of it, upright; of another `(width, height)` if one is given.
    """

    time: Fraction
    rgb: Callable[[Size | None], np.ndarray]


class SpanReader:
    """Pictures of a video file or folder of frames by their times; damaged ones are left out.

        with SpanReader("video.mp4") as reader:
            for sight in reader.between(Fraction(60), Fraction(70)):
                print(sight.time, sight.rgb(None).shape)

    Args:
        path: a video file that FFmpeg can decode, or a folder of pictures.

    Attributes:
        info: see `VideoInfo`.

    Raises:
        InputError: what can't be read as a video; also while iterating over a folder with a picture of
            another size, or pixels that can't be made RGB.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self._source: _FolderSpans | _FileSpans = (
            _FolderSpans(path) if os.path.isdir(path) else _FileSpans(path)
        )
        self.info: VideoInfo = self._source.info

    def keys(self, apart: Fraction) -> Iterator[Sight]:
        """Pictures at which decoding may begin, at least `apart` seconds from each other, decoded alone.

        The first picture is always among them. Where decoding can begin nowhere else (see `VideoIndex`), it
        is the only one.
        """
        return self._source.keys(apart)

    def between(self, begin: Fraction, end: Fraction | None = None) -> Iterator[Sight]:
        """All pictures with `begin` <= time < `end` (None: to the end of the video), sought.

        Spans that follow on each other are decoded in one go. A call ends the iteration of the one before.
        """
        return self._source.between(begin, end)

    def missing(self) -> float:
        """Seconds that the file promises after the last picture, 0 where it ends as it should.

        A GIF promises more, and not how much: that counts as one picture. Known once all was read: `keys`
        to their end, then a span to the end of the video.
        """
        return self._source.missing()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FolderSpans:
    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)
        self.info = self._folder.info

    def keys(self, apart: Fraction) -> Iterator[Sight]:
        yield from self._sights(range(0, len(self._folder.files), max(1, math.ceil(apart * DEFAULT_RATE))))

    def between(self, begin: Fraction, end: Fraction | None) -> Iterator[Sight]:
        count = len(self._folder.files)
        stop = count if end is None else min(count, math.ceil(end * DEFAULT_RATE))
        yield from self._sights(range(max(0, math.ceil(begin * DEFAULT_RATE)), stop))

    def _sights(self, numbers: range) -> Iterator[Sight]:
        for number in numbers:
            for frame in self._folder.read(number, number + 1, Damage()):
                if not frame.damaged:
                    yield Sight(frame.time, _shrinking(frame.image))

    def missing(self) -> float:
        return 0.0

    def close(self) -> None:
        """Does nothing: a folder is not kept open."""


def _shrinking(image: np.ndarray) -> Callable[[Size | None], np.ndarray]:
    return lambda size: image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


class _FileSpans:
    def __init__(self, path: Path) -> None:
        source = FileSource(path)
        source.close()  # what its header and first picture tell is all that is needed of it
        self.info, self._step, self._first = source.info, source.step, source.first
        self._coded, self._rotation = source.converter.coded_size, source.converter.rotation
        self._reformatter = VideoReformatter()
        self._open()
        self._read: Damage | None = None  # of all packets, where `keys` came to the end of the file
        self._seekable = (
            self._stream.codec_context.name in SEEKABLE
            and not numbered_by_order(self._container, self._stream)
            and source.first.pts is not None
            and source.first.start
        )

    def _open(self) -> None:
        self._container, self._stream = open_video(self.info.path)
        self._decoded = Damage()  # of all pictures, as long as nothing was sought
        self._pictures: Iterator[Picture] = decode(self._container, self._stream, self._step, self._decoded)
        self._at = Fraction(-1)  # every picture before it is past
        self._waiting: Picture | None = None  # decoded, but behind the end of the span before

    def keys(self, apart: Fraction) -> Iterator[Sight]:
        last = self._first.time
        yield self._sight(self._first)
        if not self._seekable:
            return
        container, stream = open_video(self.info.path)
        try:
            stream.codec_context.skip_frame = "NONKEY"
            read = Damage()
            for packet in packets(container, stream, read):
                time = None if packet is None else _time(packet.pts, stream)
                if packet is None or time is None or not packet.is_keyframe or packet.is_discard:
                    continue
                if time >= last + apart and (picture := _alone(stream, packet)) is not None:
                    last = time
                    yield self._sight(Picture(picture, time, damaged=False))
            self._read = read
        finally:
            container.close()

    def between(self, begin: Fraction, end: Fraction | None) -> Iterator[Sight]:
        if begin < self._at or (self._seekable and begin > self._at + _NEAR):
            self._seek(begin)
        while (picture := self._waiting or next(self._pictures, None)) is not None:
            self._waiting = None
            if end is not None and picture.time >= end:
                self._waiting = picture
                return
            self._at = picture.time + self._step / 2
            if picture.time >= begin and not picture.damaged:
                yield self._sight(picture)

    def missing(self) -> float:
        read = self._decoded if self._read is None else self._read
        end, count = self._at + self._step / 2, read.packets + read.empty
        torn = read.torn or is_broken(self.info.path, self._container.format.name, count)
        if not ends_early(self._container, self._stream, read.packets, read.empty, torn, end, self._step):
            return 0.0
        told = stream_duration(self._container, self._stream) or 0  # FFmpeg reckons an AVI's by its bytes
        return float(max(self._step, max(told, self._stream.frames * self._step) - end))

    def _seek(self, time: Fraction) -> None:
        """Make the next picture one at or before `time`, or the first of the file."""
        base, start = self._stream.time_base or Fraction(1), stream_start(self._stream)
        for early in _EARLIER if self._seekable else ():
            self._waiting = None
            try:
                self._container.seek(math.floor((time - early + start) / base), stream=self._stream)
                source = _from_key(packets(self._container, self._stream, Damage()))
                first = next(source, None)
                found = None if first is None else _time(first.pts, self._stream)
                if first is None or found is None or found > time:
                    continue
            except av.FFmpegError:  # a file that can't be sought
                break
            pictures = decode(self._container, self._stream, self._step, Damage(), chain([first], source))
            # What is decoded after the key picture but shown before it needs what comes before that.
            self._pictures = (picture for picture in pictures if picture.time >= found)
            self._at = found
            return
        self.close()
        self._open()

    def _sight(self, picture: Picture) -> Sight:
        return Sight(picture.time, lambda size: self._rgb(picture.picture, size))

    def _rgb(self, picture: av.VideoFrame, size: Size | None) -> np.ndarray:
        upright = self._rotation % 180 == 0
        coded = self._coded if size is None else size if upright else size[::-1]
        try:
            return to_rgb(picture, self._reformatter, coded, self._rotation)
        except Exception as error:
            raise InputError(
                f"{self.info.path} has pixels of format {picture.format.name}, which can't be "
                f"made RGB ({reason(error)}): convert it to H.264 first."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _time(pts: int | None, stream: VideoStream) -> Fraction | None:
    """Seconds since the start of the stream, as `decode` tells them."""
    return None if pts is None or not stream.time_base else pts * stream.time_base - stream_start(stream)


def _from_key(source: Iterator[Packet | None]) -> Iterator[Packet | None]:
    """The packets from the first key packet on; none if there is none."""
    found = False
    for packet in source:
        found = found or (packet is not None and bool(packet.is_keyframe))
        if found:
            yield packet


def _alone(stream: VideoStream, packet: Packet) -> av.VideoFrame | None:
    """The picture of a key packet, without the delay and the references of a stream; None if it has none."""
    codec = stream.codec_context
    try:
        pictures = [*codec.decode(packet), *codec.decode(None)]
    except Exception:  # broken data makes PyAV raise nearly anything
        pictures = []
    codec.flush_buffers()
    return next((picture for picture in pictures if is_key(picture) and not picture.is_corrupt), None)

"""Encoding H.264 that browsers play: yuv420p, tagged colours, index at the front, sound kept."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream

from pretrain.errors import InputError
from vidtrack.video.colour import BT709, customary_matrix, from_rgb, matrix_tag
from vidtrack.video.container import reason
from vidtrack.video.sound import Sound

_CRF = "20"  # quality of x264: 18 is visually lossless, 23 its default
_TICKS = 90_000  # per second; the clock of MPEG, a multiple of most frame rates and of milliseconds
_SLOW_TICKS = 10_000  # the same for less than a picture per second; MP4 has no slower clock
_MAX_TICKS = 1_000_000  # a faster clock could say shorter pauses only
# Pictures are out of order in the file, and MP4 has 31 bits for how far: so there is a limit to what some
# steps from picture to picture take together. After a pause that long, others still follow at their rate.
_IN_A_ROW, _LONGEST = 8, 2**30 - 2**25  # steps, ticks
_AFTERWARDS = 2**22  # ticks of such a picture, at most


class Encoder:
    """What happens in the writer's thread: pictures and times in, a finished H.264 file at `partial`.

    Attributes:
        formats: suffix -> FFmpeg's name of the container.
        channels: of the pictures.
    """

    formats: ClassVar[dict[str, str]] = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
    channels: ClassVar[int] = 3
    # The index before the pictures: plays while it loads.
    container_options: ClassVar[dict[str, str]] = {"movflags": "+faststart"}

    def __init__(
        self, path: Path, partial: Path, rate: Fraction, audio_from: Path | None, pixel_aspect: Fraction
    ) -> None:
        self.warnings: list[str] = []
        self._path, self._partial, self._audio_from = path, partial, audio_from
        self._rate, self._pixel_aspect = rate, pixel_aspect
        self._base = self.clock(rate)
        self._reformatter = VideoReformatter()
        self._output: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._sound: Sound | None = None
        self._origin = self._end = Fraction(0)
        self._pts = -1
        self._left_out = 0  # ticks
        self._steps: deque[int] = deque(maxlen=_IN_A_ROW - 1)

    def add_stream(self, output: OutputContainer, rate: Fraction) -> VideoStream:
        """The stream, with codec and pixel format."""
        stream = output.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        return stream

    def clock(self, rate: Fraction) -> Fraction:
        """Seconds per tick."""
        return Fraction(1, _ticks(rate))

    def picture(self, image: np.ndarray) -> av.VideoFrame:
        """A picture of the stream's pixel format from `[H, W, channels]` of even size."""
        return from_rgb(image, self._reformatter, self._matrix)

    def encode(self, item: tuple[np.ndarray, Fraction]) -> None:
        """Encode one picture `[H, W, 3]` of even size, shown at a time in seconds."""
        image, time = item
        with self._told():
            if self._output is None:
                try:
                    self._begin(image.shape[1], image.shape[0], time)
                except Exception as error:
                    if self._sound is None:
                        raise
                    self._close()  # of a kind that the header can't describe
                    self.warnings.append(f"the sound of {self._audio_from} was not kept: {reason(error)}.")
                    self._audio_from = None
                    self._begin(image.shape[1], image.shape[0], time)
            picture = self.picture(image)
            self._pts += self._step(time)
            picture.pts, picture.time_base = self._pts, self._base
            self._end = self._pts * self._base + 1 / self._rate
            self._mux(picture)

    def finish(self) -> None:
        """Write all that is still held back, and the index."""
        if self._output is None:
            raise InputError(f"{self._path} is not written: there was no frame to write.")
        with self._told():
            self._mux(None)
            if self._sound is not None:
                self._sound.finish(self._end)
            self._close()

    def abort(self) -> None:
        """Close the files; what was written is of no use."""
        with contextlib.suppress(Exception):
            self._close()

    def _begin(self, width: int, height: int, origin: Fraction) -> None:
        output = av.open(
            f"file:{self._partial}",
            "w",
            format=self.formats[self._partial.suffix.lower()],
            options=self.container_options,
        )
        self._output, self._origin = output, origin
        stream = self.add_stream(output, self._rate)
        context = stream.codec_context
        stream.width, stream.height = width, height
        context.time_base = self._base
        context.sample_aspect_ratio = self._pixel_aspect
        self._matrix = customary_matrix(width, height)
        context.colorspace, context.color_range = matrix_tag(self._matrix), int(ColorRange.MPEG)
        context.color_primaries = context.color_trc = BT709
        self._stream = stream
        if self._audio_from is not None:
            self._sound = Sound(self._audio_from, output, origin)
        output.start_encoding()

    def _step(self, time: Fraction) -> int:
        """Ticks from the picture before to the one at `time`.

        A pause that is longer than the file can say is shortened, and all that follows comes earlier by that.
        """
        wanted = round((time - self._origin) / self._base) - self._left_out - self._pts
        usual = min(_AFTERWARDS, round(1 / self._rate / self._base))
        longest = max(usual, _LONGEST - sum(self._steps))
        if wanted > longest:
            if not self._left_out:
                self.warnings.append(
                    f"{self._path.name} has shorter pauses than the video: its format can't say longer ones."
                )
            self._left_out += wanted - longest
        # Two times may fall on one tick; a picture must still follow the one before.
        step = min(longest, max(1, wanted))
        self._steps.append(step)
        return step

    def _mux(self, picture: av.VideoFrame | None) -> None:
        """Encode a picture (None: flush) and add what comes out, sound interleaved by time."""
        assert self._output is not None and self._stream is not None
        for packet in self._stream.encode(picture):
            if self._sound is not None and packet.dts is not None:
                self._sound.write_until(packet.dts * packet.time_base)
            self._output.mux(packet)

    def _close(self) -> None:
        if self._sound is not None:
            self._sound.close()
            self.warnings.extend(self._sound.warnings)
            self._sound = None
        if self._output is not None:
            output, self._output = self._output, None
            output.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what PyAV raises into a sentence."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self._path} can't be encoded ({reason(error)}).") from error


def _ticks(rate: Fraction) -> int:
    """Ticks per second: every frame of `rate` falls on one exactly.

    Other times are met within 6 microseconds, or 50 where frames are seconds apart.
    """
    least = _TICKS if rate >= 1 else _SLOW_TICKS
    ticks = math.lcm(least, rate.numerator)
    return ticks if ticks <= _MAX_TICKS else rate.numerator * math.ceil(least / rate.numerator)

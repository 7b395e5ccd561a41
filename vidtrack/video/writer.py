"""Writing H.264 that browsers play: yuv420p, tagged colours, index at the front, sound kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.video.background import Behind
from vidtrack.video.colour import BT709, customary_matrix, from_rgb, matrix_tag
from vidtrack.video.container import reason
from vidtrack.video.sound import Sound

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
_CRF = "20"  # quality of x264: 18 is visually lossless, 23 its default
_TICKS = 90_000  # per second; the clock of MPEG, a multiple of most frame rates and of milliseconds
_MAX_TICKS = 10_000_000
_QUEUE = 4  # pictures waiting for the encoder


class VideoWriter:
    """Writes RGB pictures as an H.264 video; a thread encodes while the caller makes the next picture.

    The file appears under its name when the writer is closed; after an exception nothing remains. Odd sizes
    are padded to even ones by repeating the last row or column.

        with VideoWriter("out.mp4", 854, 480, Fraction(25)) as writer:
            writer.write(image)

    Args:
        path: .mp4, .m4v or .mov.
        width: pixels of the pictures.
        height: pixels of the pictures.
        rate: frames per second, exact; times of pictures without `time` follow it.
        overwrite: replace an existing file.
        audio_from: file whose sound is kept, where the times of `write` are those of its frames; it is cut to
            the time that the pictures cover.

    Attributes:
        warnings: sentences for the user; complete after `close`.

    Raises:
        InputError: at once for a name that can't be written, an impossible size or rate; from `write` or
            `close` when encoding fails.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        rate: Fraction,
        *,
        overwrite: bool = False,
        audio_from: Path | str | None = None,
    ) -> None:
        path = Path(path)
        if path.suffix.lower() not in _FORMATS:
            raise InputError(f"{path} is not named {', '.join(_FORMATS)}: choose such a name for the video.")
        if not (0 < width <= 16384 and 0 < height <= 16384):
            raise InputError(f"{path} can't be {width}x{height}: H.264 holds 1 to 16384 pixels a side.")
        if rate <= 0:
            raise InputError(f"{path} can't have {rate} frames per second: give a positive rate.")
        self.warnings: list[str] = []
        self._shape = (height, width, 3)
        self._rate = Fraction(rate)
        if max(self._rate.numerator, self._rate.denominator) > _MAX_TICKS:  # FFmpeg's hold 32 bits
            self._rate = self._rate.limit_denominator(1001)
        self._first: Fraction | None = None  # time of the first picture
        self._last: Fraction | None = None
        self._cleanup = contextlib.ExitStack()
        partial = self._cleanup.enter_context(atomic_file(path, overwrite))
        self._encoder = _Encoder(path, partial, self._rate, None if audio_from is None else Path(audio_from))
        self._thread = Behind(self._encoder.encode, _QUEUE)
        self._open = True

    def write(self, image: np.ndarray, time: Fraction | None = None) -> None:
        """Append a picture.

        Args:
            image: uint8 `[H, W, 3]` RGB; may be changed by the caller afterwards.
            time: seconds at which it is shown; the first picture is shown at the start of the file and later
                ones relative to it. None: one frame after the picture before.

        Raises:
            ValueError: another shape or type, a time that doesn't increase, or the writer is closed.
            InputError: encoding failed.
        """
        if not self._open:
            raise ValueError("the writer is closed")
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"expected uint8 {list(self._shape)}, got {image.dtype} {list(image.shape)}")
        if time is None:
            time = Fraction(0) if self._last is None else self._last + 1 / self._rate
        if self._last is not None and time <= self._last:
            raise ValueError(f"times must increase: {time} s came after {self._last} s")
        self._first = time if self._first is None else self._first
        self._last = time
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # also the copy
        try:
            self._thread.put((padded, time))
        except BaseException:
            self._abort()
            raise

    def close(self) -> None:
        """Encode what is left and give the file its name. Does nothing the second time.

        Raises:
            InputError: encoding failed, or no picture was written; nothing remains.
        """
        if not self._open:
            return
        try:
            self._thread.finish()
            self._encoder.finish()
            self.warnings.extend(self._encoder.warnings)
        except BaseException:
            self._abort()
            raise
        self._open = False
        self._cleanup.close()

    def _abort(self) -> None:
        if self._open:
            self._open = False
            self._thread.abort()
            self._encoder.abort()
            self._cleanup.__exit__(_Aborted, _Aborted(), None)  # so atomic_file removes what it has

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()


class _Aborted(Exception):
    pass


class _Encoder:
    """What happens in the writer's thread: pictures and times in, a finished file at `partial`."""

    def __init__(self, path: Path, partial: Path, rate: Fraction, audio_from: Path | None) -> None:
        self.warnings: list[str] = []
        self._path, self._partial, self._audio_from = path, partial, audio_from
        self._rate = rate
        self._base = Fraction(1, _ticks(rate))
        self._reformatter = VideoReformatter()
        self._output: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._sound: Sound | None = None
        self._origin = self._end = Fraction(0)
        self._pts = -1

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
            picture = from_rgb(image, self._reformatter, self._matrix)
            # Two times may fall on one tick; a picture must still follow the one before.
            self._pts = max(self._pts + 1, round((time - self._origin) / self._base))
            picture.pts, picture.time_base = self._pts, self._base
            self._end = time - self._origin + 1 / self._rate
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
            format=_FORMATS[self._partial.suffix.lower()],
            options={"movflags": "+faststart"},  # the index before the pictures: plays while it loads
        )
        self._output, self._origin = output, origin
        stream = output.add_stream("libx264", rate=self._rate, options={"crf": _CRF, "preset": "veryfast"})
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context.time_base = self._base
        self._matrix = customary_matrix(width, height)
        context.colorspace, context.color_range = matrix_tag(self._matrix), int(ColorRange.MPEG)
        context.color_primaries = context.color_trc = BT709
        self._stream = stream
        if self._audio_from is not None:
            self._sound = Sound(self._audio_from, output, origin)
        output.start_encoding()

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
    """Ticks per second: every frame of `rate` falls on one exactly, other times within 6 microseconds."""
    ticks = math.lcm(_TICKS, rate.numerator)
    return ticks if ticks <= _MAX_TICKS else rate.numerator * math.ceil(_TICKS / rate.numerator)

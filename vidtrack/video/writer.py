"""Writing videos picture by picture, encoded by a thread; nothing half-written carries its final name."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.video.background import Behind
from vidtrack.video.encoder import Encoder
from vidtrack.video.frame import VideoInfo

_MAX_TERMS = 10_000_000  # of a rate; FFmpeg's fractions hold 32 bits
_MIN_RATE = Fraction(1, 3600)  # what a damaged header says can be less than one picture in a year
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
        pixel_aspect: width of a pixel in its heights, by which players stretch the pictures.

    Attributes:
        warnings: sentences for the user; complete after `close`.

    Raises:
        InputError: at once for a name that can't be written, an impossible size or rate; from `write` or
            `close` when encoding fails.
    """

    _encoding: ClassVar[type[Encoder]] = Encoder

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        rate: Fraction,
        *,
        overwrite: bool = False,
        audio_from: Path | str | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        path = Path(path)
        formats = self._encoding.formats
        if path.suffix.lower() not in formats:
            raise InputError(f"{path} is not named {', '.join(formats)}: choose such a name for the video.")
        require_size(path, width, height)
        if rate <= 0:
            raise InputError(f"{path} can't have {rate} frames per second: give a positive rate.")
        self.warnings: list[str] = []
        self._shape = (height, width, self._encoding.channels)
        self._rate = Fraction(rate)
        if max(self._rate.numerator, self._rate.denominator) > _MAX_TERMS:
            self._rate = self._rate.limit_denominator(1001)
        self._rate = max(self._rate, _MIN_RATE)
        self._first: Fraction | None = None  # time of the first picture
        self._last: Fraction | None = None
        self._cleanup = contextlib.ExitStack()
        partial = self._cleanup.enter_context(atomic_file(path, overwrite))
        sound = None if audio_from is None else Path(audio_from)
        self._encoder = self._encoding(path, partial, self._rate, sound, pixel_aspect)
        self._thread = Behind(self._encoder.encode, _QUEUE)
        self._open = True

    @classmethod
    def like(cls, path: Path | str, info: VideoInfo) -> Self:
        """A writer of pictures of a video, with its size, rate, shape of pixels and, of a file, its sound."""
        sound = info.path if info.has_audio and info.kind == "video" else None
        return cls(path, info.width, info.height, info.rate, audio_from=sound, pixel_aspect=info.pixel_aspect)

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


def require_size(path: Path, width: int, height: int) -> None:
    """Raise InputError unless a video can be of this size."""
    if not (0 < width <= 16384 and 0 < height <= 16384):
        raise InputError(f"{path} can't be {width}x{height}: a video holds 1 to 16384 pixels a side.")

"""Writing pictures with transparency: a WebM that browsers lay over a page, or a folder of PNGs."""

from __future__ import annotations

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from pretrain.errors import InputError
from vidtrack.files import replace, require_free
from vidtrack.video.background import Behind
from vidtrack.video.container import reason
from vidtrack.video.encoder import Encoder
from vidtrack.video.frame import frame_name
from vidtrack.video.images import save_png
from vidtrack.video.writer import VideoWriter, require_size

_QUEUE = 4  # pictures waiting for the thread
# Constant quality 24 of 0..63, lower is better; the alpha is encoded like the picture. No hidden pictures:
# players that lay one stream over the other lose step by them.
_VP9 = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1", "auto-alt-ref": "0"}


class CutoutWriter:
    """Writes RGBA pictures as VP9 with alpha in WebM, or as PNGs `00000.png ...` in a folder.

    Chrome, Firefox and FFmpeg with libvpx show the transparency of the WebM; Safari doesn't. Both are made by
    a thread, appear under their name when the writer is closed, and leave nothing after an exception. Times
    in the WebM are whole milliseconds.

        with CutoutWriter("cutout.webm", 854, 480, Fraction(25)) as writer:
            writer.write(rgba)

    Args:
        path: `.webm`, or a folder (any name without a suffix).
        width: pixels of the pictures; odd sizes are padded in the WebM by repeating the last column or row.
        height: pixels of the pictures.
        rate: frames per second, exact; times of pictures without `time` follow it.
        overwrite: replace an existing file.
        pixel_aspect: see `VideoWriter`: the WebM is resized to square pixels; PNGs stay as they are.

    Raises:
        InputError: at once for a name that can't be written, an impossible size or rate; from `write` or
            `close` when writing fails.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        rate: Fraction,
        *,
        overwrite: bool = False,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        path = Path(path)
        if path.suffix.lower() not in ("", ".webm"):
            raise InputError(
                f"{path} is not named .webm, nor is it the name of a folder: choose such a name."
            )
        self._sink: _WebM | _Pngs
        if path.suffix:
            # PyAV can't tell the WebM how its pixels are to be stretched.
            wide = width if pixel_aspect == 1 else max(1, round(width * pixel_aspect))
            self._stretched = (wide, height) if wide != width else None
            self._sink = _WebM(path, wide, height, rate, overwrite=overwrite)
        else:
            self._sink = _Pngs(path, width, height, overwrite)

    def write(self, image: np.ndarray, time: Fraction | None = None, name: str | None = None) -> None:
        """Append a picture.

        Args:
            image: uint8 `[H, W, 4]` RGBA, alpha not multiplied into the colours; may be changed afterwards.
            time: seconds at which it is shown, as for `VideoWriter.write`.
            name: of the PNG, without suffix; None: the number of the picture.

        Raises:
            ValueError: another shape or type, a time that doesn't increase, or the writer is closed.
            InputError: writing failed.
        """
        if isinstance(self._sink, _WebM):
            if self._stretched is not None:
                image = cv2.resize(image, self._stretched, interpolation=cv2.INTER_LINEAR)
            self._sink.write(image, time)
        else:
            self._sink.write(image, name)

    def close(self) -> None:
        """Write what is left and give the result its name. Does nothing the second time.

        Raises:
            InputError: writing failed, or there was no picture; nothing remains.
        """
        self._sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.__exit__(kind, error, trace)


class _AlphaEncoder(Encoder):
    """VP9 with a second stream of the alpha, as WebM keeps it."""

    formats: ClassVar[dict[str, str]] = {".webm": "webm"}
    channels: ClassVar[int] = 4
    container_options: ClassVar[dict[str, str]] = {}

    def add_stream(self, output: OutputContainer, rate: Fraction) -> VideoStream:
        stream = output.add_stream("libvpx-vp9", rate=rate, options=_VP9)
        stream.pix_fmt = "yuva420p"
        stream.metadata["alpha_mode"] = "1"  # browsers look for the alpha only where this is said
        return stream

    def clock(self, rate: Fraction) -> Fraction:
        return Fraction(1, 1000)  # that of the container: pictures closer than this must not fall together

    def picture(self, image: np.ndarray) -> av.VideoFrame:
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgba"),
            format="yuva420p",
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
        )


class _WebM(VideoWriter):
    _encoding = _AlphaEncoder


class _Pngs:
    """A folder of PNGs, made beside its place and renamed when it is complete."""

    def __init__(self, path: Path, width: int, height: int, overwrite: bool) -> None:
        require_size(path, width, height)
        self._path = require_free(path, overwrite, folder=True)
        self._partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            self._partial.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{path} can't be made ({reason(error)}): choose another output.") from error
        self._shape = (height, width, 4)
        self._count = 0
        self._open = True
        self._thread = Behind(self._save, _QUEUE)

    def write(self, image: np.ndarray, name: str | None) -> None:
        if not self._open:
            raise ValueError("the writer is closed")
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"expected uint8 {list(self._shape)}, got {image.dtype} {list(image.shape)}")
        try:
            self._thread.put((image.copy(), name or frame_name(self._count)))
        except BaseException:
            self._abort()
            raise
        self._count += 1

    def _save(self, item: tuple[np.ndarray, str]) -> None:
        image, name = item
        save_png(self._partial / f"{name}.png", image)

    def close(self) -> None:
        if not self._open:
            return
        try:
            self._thread.finish()
            if not self._count:
                raise InputError(f"{self._path} is not written: there was no frame to write.")
            replace(self._partial, self._path)
        except BaseException:
            self._abort()
            raise
        self._open = False

    def _abort(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):
                self._thread.abort()
            shutil.rmtree(self._partial, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

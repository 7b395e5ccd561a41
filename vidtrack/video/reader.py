"""Reading a video file or a folder of frames as a stream of RGB frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from av.video.reformatter import VideoReformatter

from pretrain.errors import InputError
from vidtrack.video.background import Ahead
from vidtrack.video.colour import to_rgb
from vidtrack.video.container import (
    average_rate,
    ends_early,
    frame_count,
    open_video,
    reason,
    stream_duration,
)
from vidtrack.video.decode import Damage, Picture, decode
from vidtrack.video.folder import Folder
from vidtrack.video.frame import Frame, VideoInfo, frame_name


class VideoReader:
    """Iterator over the frames of a video file or a folder of frames, decoded ahead in a thread.

    Memory is constant: `prefetch` frames and what the decoder holds. A damaged file is read as far as it
    goes: what can't be decoded repeats the frame before it, marked `damaged`; frames before the first good
    one are left out (a folder repeats the first good one instead, so that its names stay).

        with VideoReader("video.mp4") as reader:
            for frame in reader:
                print(frame.index, frame.time, frame.image.shape)

    Args:
        path: a video file that FFmpeg can decode, or a folder of pictures.
        start: number of the first frame.
        end: number after the last frame; None, or more than there are, for all.
        prefetch: frames decoded ahead; 0 decodes in the caller's thread.

    Attributes:
        info: see `VideoInfo`.
        warnings: sentences for the user; complete when the last frame was read.

    Raises:
        InputError: at once for what can't be read as a video or an impossible range; while iterating when
            `start` lies beyond the last frame.
    """

    def __init__(
        self, path: Path | str, start: int = 0, end: int | None = None, *, prefetch: int = 4
    ) -> None:
        path = Path(path)
        if start < 0 or (end is not None and end <= start):
            raise InputError(
                f"frames {start} to {end} of {path} are no range: frames count from 0, "
                "and the end (exclusive) must be after the start."
            )
        self.warnings: list[str] = []
        self._source: _Source = _FolderSource(path) if path.is_dir() else _FileSource(path)
        self.info: VideoInfo = self._source.info
        frames = self._source.frames(start, end, self.warnings)
        self._frames: Iterator[Frame] = Ahead(frames, prefetch) if prefetch > 0 else frames

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Stop decoding and close the file; frames not taken are dropped. Does nothing the second time."""
        if isinstance(self._frames, Ahead):
            self._frames.close()
        self._frames = iter(())
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def probe(path: Path | str) -> VideoInfo:
    """What is known of a video or folder of frames; decodes its first frame only.

    Raises:
        InputError: it can't be read as a video.
    """
    path = Path(path)
    if path.is_dir():
        return Folder(path).info
    source = _FileSource(path)
    source.close()
    return source.info


def read_frame(path: Path | str, index: int) -> Frame:
    """Frame number `index` of a video (decoded from its beginning, so that the number is exact) or folder.

    Raises:
        InputError: there is no such frame, or no video.
    """
    with VideoReader(path, index, index + 1, prefetch=0) as reader:
        return next(reader)


class _Source(Protocol):
    info: VideoInfo

    def frames(self, start: int, end: int | None, warnings: list[str]) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class _FolderSource:
    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)
        self.info = self._folder.info

    def frames(self, start: int, end: int | None, warnings: list[str]) -> Iterator[Frame]:
        count = len(self._folder.files)
        _require_frame(self.info.path, start, count)
        end = count if end is None else min(end, count)
        self._folder.check_sizes(start, end)
        return self._read(start, end, warnings)

    def _read(self, start: int, end: int, warnings: list[str]) -> Iterator[Frame]:
        damage = Damage()
        yield from self._folder.read(start, end, damage)
        warnings.extend(_damage_sentence(self.info, damage, early=False))

    def close(self) -> None:
        pass


class _FileSource:
    def __init__(self, path: Path) -> None:
        self._container, self._stream = open_video(path)
        try:
            duration = stream_duration(self._container, self._stream)
            rate = average_rate(self._stream, duration)
            self._step, self._damage = 1 / rate, Damage()
            self._pictures = decode(self._container, self._stream, self._step, self._damage)
            first = next(self._pictures, None)
            if first is None:
                raise InputError(
                    f"{path} holds no frame that can be decoded: it is damaged, or its codec is unknown here."
                )
        except BaseException:
            self._container.close()
            raise
        self._first = first
        # Only quarter turns: what else a matrix may say (flips, 45 degrees) no common reader applies.
        rotation = round(first.picture.rotation / 90) * 90 % 360
        width, height = first.picture.width, first.picture.height
        self.info = VideoInfo(
            path=path,
            kind="video",
            width=width if rotation % 180 == 0 else height,
            height=height if rotation % 180 == 0 else width,
            rate=rate,
            frames=frame_count(self._stream, duration, rate),
            duration=None if duration is None else float(duration),
            codec=self._stream.codec_context.name,
            rotation=rotation,
            has_audio=bool(self._container.streams.audio),
        )

    def frames(self, start: int, end: int | None, warnings: list[str]) -> Iterator[Frame]:
        size = (self._first.picture.width, self._first.picture.height)
        reformatter = VideoReformatter()
        index, resized, last = -1, 0, self._first
        for index, last in enumerate(chain([self._first], self._pictures)):
            if index >= start:
                resized += (last.picture.width, last.picture.height) != size
                image = self._convert(last, reformatter, size)
                yield Frame(index, last.time, image, last.damaged, frame_name(index))
            if end is not None and index + 1 >= end:
                break
        _require_frame(self.info.path, start, index + 1)
        damage, end_time = self._damage, last.time + self._step
        early = damage.complete and ends_early(
            self._container, self._stream, damage.packets, damage.torn, end_time, self._step
        )
        warnings.extend(_damage_sentence(self.info, damage, early))
        if resized:
            warnings.append(
                f"{self.info.path} changes its size: {resized} frames were resized to that of the first, "
                f"{self.info.width}x{self.info.height}."
            )

    def _convert(self, picture: Picture, reformatter: VideoReformatter, size: tuple[int, int]) -> np.ndarray:
        try:
            return to_rgb(picture.picture, reformatter, size, self.info.rotation)
        except Exception as error:  # a pixel format that FFmpeg can decode but not convert
            raise InputError(
                f"{self.info.path} has pixels of format {picture.picture.format.name}, which can't be "
                f"made RGB ({reason(error)}): convert it to H.264 first."
            ) from error

    def close(self) -> None:
        self._container.close()


def _require_frame(path: Path, index: int, count: int) -> None:
    if index >= count:
        raise InputError(f"{path} has no frame {index}: it has {count} frames, counted from 0.")


def _damage_sentence(info: VideoInfo, damage: Damage, early: bool) -> list[str]:
    """One sentence of all that was wrong with a file, or none."""
    good = damage.frames - damage.damaged
    found = []
    if early:
        promised = f" of {info.frames}" if info.frames and info.frames > good else ""
        found.append(f"it ends early, after {good}{promised} good frames")
    if damage.damaged:
        found.append(f"{damage.damaged} of {damage.frames} frames could not be decoded whole")
    if damage.lost_first:
        found.append(f"what comes before the first readable frame is left out ({damage.lost_first})")
    if damage.torn and not found:
        found.append("some of its data can't be read")
    return [f"{info.path} is damaged: {', '.join(found)}."] if found else []

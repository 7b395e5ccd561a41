"""Reading a video file or a folder of frames as a stream of RGB frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from vidtrack.video.background import Ahead
from vidtrack.video.decode import Damage
from vidtrack.video.folder import Folder
from vidtrack.video.frame import Frame, VideoInfo
from vidtrack.video.index import VideoIndex
from vidtrack.video.source import FileSource, FolderSource, require_range


class VideoReader:
    """Iterator over the frames of a video file or a folder of frames, decoded ahead in a thread.

    Memory is constant: `prefetch` frames and what the decoder holds. A damaged file is read as far as it
    goes: what can't be decoded repeats the frame before it, marked `damaged`; frames before the first good
    one are left out (a folder repeats the first good one instead, so that its names stay). A `start` far into
    a file is sought where its number is certain (see `VideoIndex`), else decoded to from the beginning; where
    it was sought, `warnings` tell of damage from there on only.

        with VideoReader("video.mp4") as reader:
            for frame in reader:
                print(frame.index, frame.time, frame.image.shape)

    Args:
        path: a video file that FFmpeg can decode, or a folder of pictures.
        start: number of the first frame.
        end: number after the last frame; None, or more than there are, for all.
        prefetch: frames decoded ahead; 0 decodes in the caller's thread.
        index: of the same file, to share with other readings.

    Attributes:
        info: see `VideoInfo`.
        warnings: sentences for the user; complete when the last frame was read.

    Raises:
        InputError: at once for what can't be read as a video or an impossible range; while iterating when
            `start` lies beyond the last frame.
    """

    def __init__(
        self,
        path: Path | str,
        start: int = 0,
        end: int | None = None,
        *,
        prefetch: int = 4,
        index: VideoIndex | None = None,
    ) -> None:
        path = Path(path)
        require_range(path, start, end)
        self.warnings: list[str] = []
        self._source: FolderSource | FileSource
        if os.path.isdir(path):
            self._source = folder = FolderSource(path)
            frames = folder.frames(start, end, self.warnings)
        else:
            self._source = file = FileSource(path)
            frames = file.frames(start, end, self.warnings, (index or VideoIndex(path)).near)
        self.info: VideoInfo = self._source.info
        self._frames: Iterator[Frame] = Ahead(frames, prefetch) if prefetch > 0 else frames

    @property
    def damage(self) -> Damage:
        """What went wrong; complete when the last frame was read."""
        return self._source.damage

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
    if os.path.isdir(path):
        return Folder(path).info
    source = FileSource(path)
    source.close()
    return source.info


def read_frame(path: Path | str, number: int, *, index: VideoIndex | None = None) -> Frame:
    """Frame `number` of a video or folder, sought where that is certain as by `VideoReader`.

    Raises:
        InputError: there is no such frame, or no video.
    """
    with VideoReader(path, number, number + 1, prefetch=0, index=index) as reader:
        return next(reader)

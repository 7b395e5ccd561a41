"""Reading a video from its end to its beginning in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from vidtrack.video.decode import Picture
from vidtrack.video.entries import Entry
from vidtrack.video.frame import Frame, frame_name
from vidtrack.video.index import VideoIndex
from vidtrack.video.seek import matches, reach
from vidtrack.video.source import FileSource, FolderSource, require_frame, require_range

_BLOCK = 64  # pictures held at a time
_BYTES = 256 << 20  # of the pictures held; large ones make the block smaller


def read_backward(
    path: Path | str,
    start: int = 0,
    end: int | None = None,
    *,
    index: VideoIndex | None = None,
    warnings: list[str] | None = None,
) -> Iterator[Frame]:
    """Frames `end` - 1 down to `start`, each exactly the one that `VideoReader` gives under its number.

    A file is decoded twice: once to know its pictures (`VideoIndex.exact`), then in blocks of at most 64 from
    the last to the first, each from the key picture before it. Groups of pictures longer than a block are
    decoded once for each block. Where decoding can't begin in the middle of a file (gif, AVI with reordered
    frames, a stream with one key picture, damage), each block is decoded from the beginning of the file.

        for frame in read_backward("video.mp4", 100, 200):
            print(frame.index)  # 199, 198, ... 100

    Args:
        path: a video file or folder of frames, as for `VideoReader`.
        start: number of the frame that comes last.
        end: number after the frame that comes first; None, or more than there are, for all.
        index: of the same file, to share with other readings.
        warnings: sentences for the user are appended to it, at the latest after the last frame.

    Raises:
        InputError: at once for what can't be read as a video or an impossible range; while iterating when
            `start` lies beyond the last frame.
    """
    path = Path(path)
    require_range(path, start, end)
    told = [] if warnings is None else warnings
    if os.path.isdir(path):
        return FolderSource(path).backward(start, end, told)
    source = FileSource(path)
    source.close()  # what its header and first picture tell is all that is needed of it
    return _backward(source, start, end, index or VideoIndex(path), told)


def _backward(
    source: FileSource, start: int, end: int | None, index: VideoIndex, warnings: list[str]
) -> Iterator[Frame]:
    entries, told = index.exact(end)
    path = source.info.path
    require_frame(path, start, len(entries))
    stop = len(entries) if end is None else min(end, len(entries))
    limit = max(1, min(_BLOCK, _BYTES // (3 * source.info.width * source.info.height)))
    while stop > start:
        begin = _block_start(entries, start, stop, limit)
        frames = _sought(source, entries, begin, stop) or _from_beginning(source, begin, stop)
        stop = begin
        while frames:
            yield frames.pop()  # given away one by one, so that memory shrinks meanwhile
    warnings.extend(told + source.size_sentence())


def _block_start(entries: Sequence[Entry], start: int, stop: int, limit: int) -> int:
    """First picture of the block that ends before `stop`: whole groups of pictures if they fit."""
    lowest = max(start, stop - limit)
    if lowest == start:
        return start
    return next((i for i in range(lowest, stop) if entries[i].start), lowest)


def _sought(source: FileSource, entries: Sequence[Entry], begin: int, stop: int) -> list[Frame]:
    """Frames `begin` to `stop` - 1, decoded from the start before them; none where that isn't certain."""
    reached = reach(source.info.path, source.step, entries, begin, stop)
    if reached is None:
        return []
    frames = []
    try:
        for number, picture in enumerate(islice(reached.pictures, stop - begin), begin):
            if not matches(picture, entries[number]):
                return []
            frames.append(_frame(source, number, picture))
    finally:
        reached.container.close()
    return frames if len(frames) == stop - begin else []


def _from_beginning(source: FileSource, begin: int, stop: int) -> list[Frame]:
    """Frames `begin` to `stop` - 1, decoded as `VideoReader` does."""
    again = FileSource(source.info.path)
    try:
        pictures = enumerate(islice(again.pictures(), stop))
        return [_frame(source, number, picture) for number, picture in pictures if number >= begin]
    finally:
        again.close()


def _frame(source: FileSource, number: int, picture: Picture) -> Frame:
    # Made RGB at once: pictures that are kept change which memory a decoder uses again, and with it what it
    # shows in place of lost data.
    image = source.converter.rgb(picture.picture)
    return Frame(number, picture.time, image, picture.damaged, frame_name(number), doubtful=picture.doubtful)

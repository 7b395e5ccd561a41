"""What a reader reads from: an opened video file, or a folder of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

from pretrain.errors import InputError
from vidtrack.video import matroska, mp4
from vidtrack.video.colour import Converter
from vidtrack.video.container import (
    average_rate,
    ends_early,
    frame_count,
    open_video,
    pixel_aspect,
    stream_duration,
)
from vidtrack.video.decode import Damage, Picture, decode
from vidtrack.video.entries import Entry
from vidtrack.video.folder import Folder
from vidtrack.video.frame import Frame, VideoInfo, frame_name
from vidtrack.video.seek import reach
from vidtrack.video.structure import is_broken

_WHOLE = ("h264", "hevc")  # codecs that give a picture for each packet of these containers
_NEAR = 32  # frames that are decoded sooner than sought


class FolderSource:
    """A folder of frames; `info` as `probe` tells it, `damage` what went wrong so far."""

    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)
        self.info = self._folder.info
        self.damage = Damage()

    def frames(self, start: int, end: int | None, warnings: list[str]) -> Iterator[Frame]:
        """Frames `start` to `end` - 1; see `VideoReader`."""
        begin, stop = self._range(start, end)
        return self._read(range(begin, stop), [(begin, stop)], warnings)

    def backward(self, start: int, end: int | None, warnings: list[str]) -> Iterator[Frame]:
        """Frames `end` - 1 down to `start`; see `read_backward`."""
        begin, stop = self._range(start, end)
        order = range(stop - 1, begin - 1, -1)
        return self._read(order, [(i, i + 1) for i in order], warnings)

    def _range(self, start: int, end: int | None) -> tuple[int, int]:
        count = len(self._folder.files)
        require_frame(self.info.path, start, count)
        end = count if end is None else min(end, count)
        self._folder.check_sizes(start, end)
        return start, end

    def _read(self, order: range, parts: list[tuple[int, int]], warnings: list[str]) -> Iterator[Frame]:
        for begin, stop in parts:
            yield from self._folder.read(begin, stop, self.damage)
        warnings.extend(damage_sentence(self.info, self.damage))

    def close(self) -> None:
        """Does nothing: a folder is not kept open."""


class FileSource:
    """A video file, opened and decoded to its first picture.

    Attributes:
        info: as `probe` tells it.
        first: the first picture.
        converter: makes the pictures RGB.
        damage: what went wrong so far.
        step: seconds per frame where timestamps are missing.

    Raises:
        InputError: it can't be read as a video.
    """

    def __init__(self, path: Path) -> None:
        self._container, self._stream = open_video(path)
        try:
            duration = stream_duration(self._container, self._stream)
            rate = average_rate(self._stream, duration)
            self.step, self.damage = 1 / rate, Damage()
            self._pictures = decode(self._container, self._stream, self.step, self.damage)
            first = next(self._pictures, None)
            if first is None:
                raise InputError(
                    f"{path} holds no frame that can be decoded: it is damaged, of a codec that is unknown "
                    "here, or larger than --max-pixels."
                )
        except BaseException:
            self._container.close()
            raise
        self.first = first
        self.converter = Converter(first.picture, path)
        self.info = VideoInfo(
            path=path,
            kind="video",
            width=self.converter.size[0],
            height=self.converter.size[1],
            rate=rate,
            frames=frame_count(self._stream, duration, rate),
            duration=None if duration is None else float(duration),
            codec=self._stream.codec_context.name,
            rotation=self.converter.rotation,
            has_audio=bool(self._container.streams.audio),
            pixel_aspect=pixel_aspect(self._stream, self.converter.rotation),
        )

    def pictures(self) -> Iterator[Picture]:
        """All pictures from the first one on; for one use."""
        return chain([self.first], self._pictures)

    def frames(
        self,
        start: int,
        end: int | None,
        warnings: list[str],
        near: Callable[[int], list[Entry] | None],
    ) -> Iterator[Frame]:
        """Frames `start` to `end` - 1; see `VideoReader`. `near` as of `VideoIndex`."""
        number, last = 0, self.first
        pictures = self.pictures()
        if start >= _NEAR and self._seek(start, near(start)):
            number, pictures = start, self._pictures
        for last in pictures:
            if number >= start:
                image = self.converter.rgb(last.picture)
                yield Frame(
                    number, last.time, image, last.damaged, frame_name(number), doubtful=last.doubtful
                )
            number += 1
            if number == end:
                break
        require_frame(self.info.path, start, number)
        warnings.extend(self.told(last.time + self.step))

    def _seek(self, number: int, entries: list[Entry] | None) -> bool:
        """Make `number` the next picture to decode; False, and nothing changed, where that isn't certain."""
        if entries is None or not self.first.start or self.first.pts != entries[0].pts:
            return False
        reached = reach(self.info.path, self.step, entries, number, number + 1)
        if reached is None:
            return False
        self._container.close()
        self._container, self._stream = reached.container, reached.stream
        self._pictures, self.damage = reached.pictures, reached.damage
        return True

    def told(self, end_time: Fraction) -> list[str]:
        """What the user should know, once the last picture wanted, which ends at `end_time`, was read."""
        damage = self.damage
        if damage.complete:
            container, stream = self._container, self._stream
            packets = damage.packets + damage.empty
            damage.torn |= is_broken(self.info.path, container.format.name, packets)
            damage.early = ends_early(
                container, stream, damage.packets, damage.empty, damage.torn, end_time, self.step
            )
            damage.hidden = self._hidden(packets)
        return damage_sentence(self.info, damage) + self.size_sentence()

    def _hidden(self, packets: int) -> int:
        """How many frames a file holds that were not shown, where that can be told."""
        container, codec = self._container.format.name, self.info.codec
        if self.damage.early or container not in (mp4.FORMAT, matroska.FORMAT):
            return 0
        left_out = max(0, self._stream.frames - packets)  # the demuxer knows of them, and keeps them back
        return left_out + (self.damage.unseen if codec in _WHOLE else 0)

    def size_sentence(self) -> list[str]:
        """One sentence if pictures that were converted had other sizes, or none."""
        if not self.converter.resized:
            return []
        return [
            f"{self.info.path} changes its size: {self.converter.resized} frames were resized to that of "
            f"the first, {self.info.width}x{self.info.height}."
        ]

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def require_frame(path: Path, number: int, count: int) -> None:
    """Raise InputError unless a video of `count` frames has frame `number`."""
    if number >= count:
        raise InputError(f"{path} has no frame {number}: it has {count} frames, counted from 0.")


def require_range(path: Path, start: int, end: int | None) -> None:
    """Raise InputError unless frames `start` to `end` - 1 are a range."""
    if start < 0 or (end is not None and end <= start):
        raise InputError(
            f"frames {start} to {end} of {path} are no range: frames count from 0, "
            "and the end (exclusive) must be after the start."
        )


def damage_sentence(info: VideoInfo, damage: Damage) -> list[str]:
    """One sentence of all that was wrong with a file, or none; one more of frames that it doesn't show."""
    good = damage.frames - damage.damaged
    found = []
    if damage.early:
        promised = f" of {info.frames}" if info.frames and info.frames > good else ""
        found.append(f"it ends early, after {good}{promised} good frames")
    if damage.damaged:
        found.append(f"{damage.damaged} of {damage.frames} frames could not be decoded whole")
    if damage.doubtful:
        found.append(f"{damage.doubtful} that follow them, up to the next key picture, may show traces of it")
    if damage.lost_first:
        found.append(f"what comes before the first readable frame is left out ({damage.lost_first})")
    if damage.torn and not found:
        found.append("some of its data can't be read")
    told = [f"{info.path} is damaged: {', '.join(found)}."] if found else []
    if damage.hidden:
        told.append(
            f"{info.path} holds {_frames(damage.hidden)} more than it shows: its edit list leaves them out, "
            "what they need is missing, or the file is damaged."
        )
    return told


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"

"""Looking through a video with as little decoding as shows what is in it.

Key pictures are decoded alone. Between two that are alike, nothing else is looked at; where they differ, or
are far from each other, and after the last, all frames are. Where every frame is a key picture (MJPEG,
ProRes, folders of frames), two looks a second are enough to know where to look closer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from vidtrack.learn.index.bars import Edges, edges
from vidtrack.learn.index.signatures import Thumb, step, thumb_size
from vidtrack.video.spans import Sight, SpanReader

EVERY = Fraction(1, 2)  # least seconds between two key pictures that are looked at, or between two borders
LONGEST = 10  # seconds between two key pictures: what may happen in more can't be told from its ends
ALIKE = 4.0  # largest `step` between key pictures of which nothing in between is looked at
FINEST = Fraction(1, 64)  # least seconds between two looks


@dataclass(frozen=True, eq=False)
class Look:
    """One picture of a video that was looked at.

    Attributes:
        time: seconds since the start of the stream.
        thumb: the picture, small.
        follows: the frame right before it was looked at, too (up to `FINEST`).
        edges: what may be bars at its borders; None where that was not looked at.
    """

    time: Fraction
    thumb: Thumb
    follows: bool
    edges: Edges | None


def looks(reader: SpanReader, bars: int | None) -> Iterator[Look]:
    """The pictures of a video to look at, in order of time.

    Args:
        reader: the video.
        bars: gray level up to which a border may be a bar; None: borders are not looked at.

    Raises:
        InputError: see `SpanReader`.
    """
    watcher = _Watcher(reader, bars)
    before: tuple[Sight, Thumb] | None = None
    for sight in reader.keys(EVERY):
        thumb = watcher.thumb(sight)
        if before is not None:
            begin = before[0].time
            if sight.time - begin > LONGEST or step(before[1], thumb) > ALIKE:
                yield from watcher.all(reader.between(begin, sight.time))
            else:
                yield watcher.one(*before)
        before = sight, thumb
    if before is not None:
        yield from watcher.all(reader.between(before[0].time))


class _Watcher:
    """Makes the looks of one video."""

    def __init__(self, reader: SpanReader, bars: int | None) -> None:
        self._size = (reader.info.width, reader.info.height)
        self._thumb_size = thumb_size(*self._size)
        self._bars = bars
        self._dense = False  # the look before was one of all frames
        self._due = Fraction(0)  # when borders are looked at again

    def thumb(self, sight: Sight) -> Thumb:
        return Thumb.of(sight.rgb(self._thumb_size))

    def one(self, sight: Sight, thumb: Thumb) -> Look:
        """The look at a key picture whose followers are not looked at."""
        look = self._look(sight, thumb)
        self._dense = False
        return look

    def all(self, sights: Iterable[Sight]) -> Iterator[Look]:
        """The looks at frames that follow on each other."""
        last: Fraction | None = None
        for sight in sights:
            if last is None or sight.time - last >= FINEST:
                last = sight.time
                yield self._look(sight, self.thumb(sight))
                self._dense = True

    def _look(self, sight: Sight, thumb: Thumb) -> Look:
        found = None
        if self._bars is not None and sight.time >= self._due:
            self._due = sight.time + EVERY
            found = edges(sight, self._size, thumb, self._bars)
        return Look(sight.time, thumb, self._dense, found)

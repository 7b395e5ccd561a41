"""Shots: spans of a video between hard cuts, with what is known of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidtrack.learn.index.bars import Box, Edges, box
from vidtrack.learn.index.cuts import mark_cuts
from vidtrack.learn.index.looks import Look, looks
from vidtrack.learn.index.settings import Index
from vidtrack.learn.index.signatures import change, dhash
from vidtrack.video.spans import SpanReader

GRID = Fraction(1, 8)  # seconds between two hashes of a shot
_DIGITS = 16  # hexadecimal, of a hash


@dataclass(frozen=True)
class Shot:
    """A part of a video without hard cuts.

    Attributes:
        path: the video file or folder of frames.
        name: the path within the folder of videos, with slashes.
        begin: time of its first frame in seconds, exact.
        end: a time between that of its last frame and that of the next.
        box: `(top, bottom, left, right)` of the upright frame without black bars; None: all of it.
        size: `(width, height)` of the upright frame.
        rate: frames per second of the video.
        change: the most that a place in it changes, in gray levels, see `signatures.change`.
        hashes: see `signatures.dhash`, one for each `GRID` seconds from `begin` on.
    """

    path: Path
    name: str
    begin: Fraction
    end: Fraction
    box: Box | None
    size: tuple[int, int]
    rate: Fraction
    change: float
    hashes: tuple[int | None, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.end - self.begin)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what is left without black bars."""
        top, bottom, left, right = self.box or (0, self.size[1], 0, self.size[0])
        return bottom - top, right - left

    def frames(self, rate: float) -> int:
        """How many frames it has when `rate` a second are taken; all of a slower video."""
        return max(1, math.ceil((self.end - self.begin) * min(Fraction(rate), self.rate)))

    def __str__(self) -> str:
        return f"{self.name} from {clock(self.begin)} to {clock(self.end)}"

    def to_json(self) -> list[Any]:
        """What tells it apart from other shots of its video, for `from_json`."""
        hashes = "".join("-" * _DIGITS if h is None else f"{h:0{_DIGITS}x}" for h in self.hashes)
        return [str(self.begin), str(self.end), self.box, self.change, hashes]

    @classmethod
    def from_json(
        cls, value: list[Any], path: Path, name: str, size: tuple[int, int], rate: Fraction
    ) -> Shot:
        """The shot that `to_json` described.

        Raises:
            ValueError, TypeError: it did not.
        """
        begin, end, found, moved, text = value
        parts = [text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS)]
        hashes = tuple(None if part[0] == "-" else int(part, 16) for part in parts)
        rest = None if found is None else (int(found[0]), int(found[1]), int(found[2]), int(found[3]))
        return cls(path, name, Fraction(begin), Fraction(end), rest, size, rate, float(moved), hashes)


def clock(time: Fraction) -> str:
    """`1:02:03.4` or `2:03.4`: a time for the user."""
    tenths = round(time * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}.{rest % 10}"


def find_shots(
    reader: SpanReader, name: str, settings: Index, goes_on: Callable[[], bool] = lambda: True
) -> list[Shot]:
    """The shots of a video in order of time; without a picture that can be decoded there are none.

    Args:
        reader: the video.
        name: see `Shot`.
        settings: see `Index`.
        goes_on: asked after each look; when it says no, what was found so far is returned.

    Raises:
        InputError: see `SpanReader`.
    """
    shots: list[Shot] = []
    draft: _Draft | None = None
    least = math.inf if settings.cuts is None else settings.cuts
    for look, cut in mark_cuts(looks(reader, settings.bars), least):
        if draft is None or cut:
            if draft is not None:
                shots.append(draft.shot(reader, name, settings, look.time))
            draft = _Draft(look)
        draft.add(look)
        if not goes_on():
            break
    if draft is not None:
        shots.append(draft.shot(reader, name, settings))
    return shots


class _Draft:
    """A shot whose end was not seen yet; holds two of its looks."""

    def __init__(self, first: Look) -> None:
        self._first = self._last = first
        self._change = 0.0
        self._hashes: list[int | None] = []
        self._edges: Edges | None = None

    def add(self, look: Look) -> None:
        self._change = max(self._change, change(self._first.thumb, look.thumb))
        if look.edges is not None:
            self._edges = look.edges if self._edges is None else self._edges | look.edges
        self._hash_until((self._last.time + look.time) / 2)
        self._last = look

    def _hash_until(self, time: Fraction) -> None:
        """Fill the grid before `time` with the hash of the last look."""
        missing = math.ceil((time - self._first.time) / GRID) - len(self._hashes)
        if missing > 0:
            self._hashes += [dhash(self._last.thumb.image)] * missing

    def shot(self, reader: SpanReader, name: str, settings: Index, after: Fraction | None = None) -> Shot:
        """The shot that ends with the last look; `after` is the time of the next shot's first frame.

        The rate of a file may be far below that of the frames here.
        """
        info = reader.info
        end = self._last.time + 1 / (2 * info.rate)
        if after is not None:
            end = min(end, (self._last.time + after) / 2)
        self._hash_until(end)
        found = None
        if self._edges is not None and settings.bars is not None:
            found = box(self._edges, settings.bars)
        return Shot(
            path=info.path,
            name=name,
            begin=self._first.time,
            end=end,
            box=found,
            size=(info.width, info.height),
            rate=info.rate,
            change=round(self._change, 2),
            hashes=tuple(self._hashes),
        )

"""Decoded parts of shots on disk, in few files: each open file costs one of the system's descriptors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np

from vidtrack.files import replace, write_json
from vidtrack.learn.index.films import DAMAGED, State, state
from vidtrack.learn.index.shots import Shot
from vidtrack.learn.index.threads import GoesOn, in_threads
from vidtrack.video.spans import SpanReader

FORMAT = 2  # counted up when the same parts and settings give other frames
STALE = 3600.0  # seconds after which a file in the making was abandoned
MILLISECOND = Fraction(1, 1000)
PACKS = 64  # files in which all parts are
_TOGETHER = 8  # neighbouring parts of a video in one file: they are decoded in one go


@dataclass(frozen=True)
class Part:
    """Frames of a shot that are wanted.

    Attributes:
        shot: the shot.
        begin: seconds at which they begin.
        count: at most how many.
    """

    shot: Shot
    begin: Fraction
    count: int


class Timed(Protocol):
    """What has a time in seconds."""

    @property
    def time(self) -> Fraction:
        """When it is shown."""


Picture = TypeVar("Picture", bound=Timed)


def sampled(pictures: Iterable[Picture], begin: Fraction, rate: float) -> Iterator[Picture]:
    """The pictures that `rate` frames per second from `begin` on need, by their times; of slower ones all.

    Matroska and WebM round times to milliseconds: there a picture may lie that much before its due.
    """
    due, step = begin, 1 / Fraction(rate).limit_denominator(1000)
    for picture in pictures:
        rounded = MILLISECOND if 1000 % picture.time.denominator == 0 else 0
        if picture.time + rounded >= due:
            due = max(due + step, picture.time + step / 2)
            yield picture


def resized(image: np.ndarray, short_side: int) -> np.ndarray:
    """uint8 `[H, W, 3]` to `[h, w, 3]` whose short side is `short_side`; area average when it shrinks."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def load_parts(
    parts: Sequence[Part],
    short_side: int,
    rate: float,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> list[np.ndarray | str]:
    """Decode all parts, or take what an earlier call with the same ones left.

    Args:
        parts: what is wanted.
        short_side: pixels of the short side of the frames.
        rate: frames per second that are taken.
        cache: folder for the files.
        progress: called with the number of parts done and of all.
        threads: how many files are made at once; the number of cores if left out.

    Returns:
        For each part its frames, memory-mapped uint8 `[T, h, w, 3]`, T at most its count; or why there are
        none.
    """
    _sweep(cache)
    states = {path: state(path) for path in {part.shot.path for part in parts}}
    packs: defaultdict[int, list[int]] = defaultdict(list)  # numbers of the parts in each
    before: defaultdict[str, int] = defaultdict(int)  # parts of a video so far
    for number, part in enumerate(parts):
        group = before[part.shot.name] // _TOGETHER
        before[part.shot.name] += 1
        packs[int(_hash([part.shot.name, group]), 16) % PACKS].append(number)
    chosen = list(packs.values())

    def work(numbers: list[int], goes_on: GoesOn) -> list[np.ndarray | str]:
        wanted = [parts[number] for number in numbers]
        keys = [_key(part, states[part.shot.path], short_side, rate) for part in wanted]
        stem = cache / f"frames-{_hash([FORMAT, *keys])[:16]}"
        loaded = _load(stem)
        if loaded is None and _decode(wanted, short_side, rate, stem, goes_on):
            loaded = _load(stem)
        return loaded or ["the cache was changed meanwhile"] * len(numbers)

    found: dict[int, np.ndarray | str] = {}
    with closing(in_threads(work, chosen, threads)) as results:
        for numbers, loaded in zip(chosen, results, strict=True):
            found.update(zip(numbers, loaded, strict=True))
            if progress is not None:
                progress(len(found), len(parts))
    return [found[number] for number in range(len(parts))]


def _sweep(cache: Path) -> None:
    """Remove what killed processes left half-written; who is at work writes all the time."""
    for left in cache.glob(".frames-*.partial-*.raw"):
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - STALE:
                left.unlink()


def _key(part: Part, now: State | None, short_side: int, rate: float) -> list[object]:
    """Changes with everything that decides the frames of a part."""
    shot = part.shot
    return [shot.name, now, short_side, rate, str(part.begin), str(shot.end), shot.box, part.count]


def _hash(value: list[object]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _decode(parts: Sequence[Part], short_side: int, rate: float, stem: Path, goes_on: GoesOn) -> bool:
    """Write a pack: `stem`.raw with all frames, then `stem`.json; False if it was asked to stop."""
    raw, partial = stem.with_suffix(".raw"), stem.with_name(f".{stem.name}.partial-{os.getpid()}.raw")
    shapes: list[list[int] | str] = []
    reader: SpanReader | None = None
    try:
        with partial.open("wb") as file:
            for part in parts:
                start, shape = file.tell(), [0, 0, 0, 0]
                try:
                    if reader is None or reader.info.path != part.shot.path:
                        if reader is not None:
                            reader.close()
                        reader = SpanReader(part.shot.path)
                    for frame in _frames(reader, part, short_side, rate):
                        file.write(frame.tobytes())
                        shape = [shape[0] + 1, *frame.shape]
                        if not goes_on():
                            return False
                except ValueError as error:  # the video; an error in writing is not caught
                    file.seek(start)
                    file.truncate()
                    shapes.append(str(error))
                else:
                    shapes.append(shape if shape[0] else "it has no undamaged frame")
        replace(partial, raw)
    finally:
        if reader is not None:
            reader.close()
        partial.unlink(missing_ok=True)
    write_json(stem.with_suffix(".json"), shapes)
    return True


def _frames(reader: SpanReader, part: Part, short_side: int, rate: float) -> Iterator[np.ndarray]:
    """The frames of a part, uint8 `[h, w, 3]`, without bars."""
    top, bottom, left, right = part.shot.box or (0, None, 0, None)
    sights = sampled(reader.between(part.begin, part.shot.end), part.begin, rate)
    for sight in islice(sights, part.count):
        yield resized(sight.rgb(None)[top:bottom, left:right], short_side)


def _load(stem: Path) -> list[np.ndarray | str] | None:
    """The parts of a pack; None if it isn't there, or not whole."""
    try:
        shapes = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        raw = stem.with_suffix(".raw")
        data = np.memmap(raw, np.uint8, "r") if raw.stat().st_size else np.empty(0, np.uint8)
        parts: list[np.ndarray | str] = []
        start = 0
        for shape in shapes:
            if not isinstance(shape, str):
                size = int(np.prod(shape))
                parts.append(data[start : start + size].reshape(shape))
                start += size
            else:
                parts.append(shape)
    except DAMAGED:
        return None
    return parts if start == len(data) else None

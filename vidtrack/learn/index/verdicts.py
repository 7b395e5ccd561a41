"""Which shots are learned from, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vidtrack.learn.index.duplicates import find_duplicates
from vidtrack.learn.index.films import Film
from vidtrack.learn.index.settings import Index
from vidtrack.learn.index.shots import Shot, clock

Reason = Literal["broken", "missing", "static", "too short", "duplicate"]


@dataclass(frozen=True)
class Dropped:
    """A video, a shot, or the missing end of a video, that is not learned from.

    Attributes:
        name: the video's name, with the times if it is a part of it.
        reason: in a word.
        why: in a sentence's part, for the user.
        video: the video's name.
        shots: how many shots it is: 0 if it was not looked at, or is missing.
        seconds: how long it lasts.
    """

    name: str
    reason: Reason
    why: str
    video: str
    shots: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Footage:
    """What the index says of a folder of videos.

    Attributes:
        shots: to learn from, in order of their videos' names and of time.
        dropped: the others.
        videos: how many videos there are.
        cuts: how many hard cuts were found in them.
    """

    shots: list[Shot] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    videos: int = 0
    cuts: int = 0


def judge(
    films: Sequence[Film], twins: Mapping[str, str], settings: Index, rate: float, frames: int
) -> Footage:
    """Choose the shots to learn from.

    Of duplicates the one with most pixels is kept, of several of them the longest, then the first.

    Args:
        films: the videos that were looked at.
        twins: names of the others, whose bytes are those of another one, and the name of that.
        settings: see `Index`.
        rate: frames per second that are taken.
        frames: how many a clip needs.
    """
    dropped = [
        Dropped(name, "duplicate", f"it holds the same bytes as {twins[name]}", name) for name in twins
    ]
    dropped += [Dropped(film.name, "broken", film.broken, film.name) for film in films if film.broken]
    dropped += [_missing(film) for film in films if film.missing]
    single = {film.name for film in films if len(film.shots) == 1}

    def drop(shot: Shot, reason: Reason, why: str) -> None:
        name = shot.name if shot.name in single else str(shot)
        dropped.append(Dropped(name, reason, why, shot.name, 1, shot.seconds))

    left: list[Shot] = []
    for shot in (shot for film in films for shot in film.shots):
        count = shot.frames(rate)
        if count < frames:
            drop(shot, "too short", f"only {counted(count, 'frame')} at {rate:g}/s; a clip needs {frames}")
        elif settings.static is not None and shot.change <= settings.static:
            drop(shot, "static", f"nothing moves in it: it changes by {shot.change:.1f} of 255 gray levels")
        else:
            left.append(shot)
    same = {} if settings.duplicates is None else _duplicates(left, settings.duplicates)
    for shot, other in same.items():
        drop(shot, "duplicate", f"it shows the same as {other.name if other.name in single else other}")
    kept = [shot for shot in left if shot not in same]
    cuts = sum(max(0, len(film.shots) - 1) for film in films)
    return Footage(kept, sorted(dropped, key=lambda d: d.video), len(films) + len(twins), cuts)


def _missing(film: Film) -> Dropped:
    name = f"{film.name} from {clock(film.shots[-1].end)} on"
    why = f"the file ends there, {max(0.1, film.missing):.1f} seconds too early: is it complete?"
    return Dropped(name, "missing", why, film.name, 0, film.missing)


def _duplicates(shots: Iterable[Shot], bits: int) -> dict[Shot, Shot]:
    ordered = sorted(shots, key=lambda shot: (-shot.shape[0] * shot.shape[1], -shot.seconds))
    found = find_duplicates([shot.hashes for shot in ordered], bits)
    return {ordered[number]: ordered[other] for number, other in found.items()}


def counted(number: int, noun: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

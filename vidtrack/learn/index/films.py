"""What the index knows of each video, on disk: only new and changed videos are looked at again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidtrack.files import atomic_file, json_bytes
from vidtrack.learn.index.settings import Index
from vidtrack.learn.index.shots import Shot
from vidtrack.video.images import SUFFIXES

FORMAT = 3  # of the file; counted up when the same videos and settings give something else
# What a file of other content raises where it is taken for ours.
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)

State = list[int]


@dataclass(frozen=True)
class Film:
    """What is known of a video.

    Attributes:
        path: the video file or folder of frames.
        name: its path within the folder of videos, with slashes.
        shots: in order of time.
        broken: why there are none, in the decoder's words, or None.
        missing: seconds that the header promises after the last picture.
    """

    path: Path
    name: str
    shots: tuple[Shot, ...] = ()
    broken: str | None = None
    missing: float = 0.0


def state(path: Path) -> State | None:
    """What changes when a video does: bytes and time of change; of a folder their sum and the newest, the
    number of its pictures, and a checksum of what all of them are called and have.

    None if it can't be read.
    """
    try:
        if not path.is_dir():
            stat = path.stat()
            return [stat.st_size, stat.st_mtime_ns]
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        stats = [file.stat() for file in files]
        each = [(file.name, s.st_size, s.st_mtime_ns) for file, s in zip(files, stats, strict=True)]
        newest = max((s.st_mtime_ns for s in stats), default=0)
        return [sum(s.st_size for s in stats), newest, len(stats), zlib.crc32(json_bytes(each))]
    except OSError:
        return None


class Kept:
    """The films of earlier calls, in one JSON file; one that is damaged counts as none.

    Args:
        path: the file.
        settings: those that decide what a film is; others make it none.
    """

    def __init__(self, path: Path, settings: Index) -> None:
        self._path = path
        self._settings = [FORMAT, settings.cuts, settings.bars]
        self._entries: dict[str, Any] = {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["settings"] == self._settings and isinstance(value["films"], dict):
                self._entries = value["films"]
        except DAMAGED:
            pass

    def film(self, path: Path, name: str, now: State | None) -> Film | None:
        """What an earlier call found, if the video is still in the same state."""
        try:
            entry = self._entries[name]
            if now is None or entry["state"] != now:
                return None
            width, height = entry["size"]
            rate = Fraction(entry["rate"])
            shots = [
                Shot.from_json(value, path, name, (int(width), int(height)), rate) for value in entry["shots"]
            ]
            return Film(path, name, tuple(shots), entry["broken"], float(entry["missing"]))
        except DAMAGED:
            return None

    def save(self, films: Sequence[tuple[Film, State | None]]) -> None:
        """Keep these films, each with the state in which it was looked at, and no others."""
        entries = {
            film.name: {
                "state": now,
                "size": film.shots[0].size if film.shots else (0, 0),
                "rate": str(film.shots[0].rate) if film.shots else "1",
                "broken": film.broken,
                "missing": film.missing,
                "shots": [shot.to_json() for shot in film.shots],
            }
            for film, now in films
        }
        with atomic_file(self._path, overwrite=True) as partial:
            partial.write_bytes(json_bytes({"settings": self._settings, "films": entries}))

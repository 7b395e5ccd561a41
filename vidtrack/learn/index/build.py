"""The index of raw footage: all videos are looked through once, and what is worth learning from is kept."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from vidtrack.learn.index.films import Film, Kept, State, state
from vidtrack.learn.index.settings import Index
from vidtrack.learn.index.shots import find_shots
from vidtrack.learn.index.threads import GoesOn, in_threads
from vidtrack.learn.index.verdicts import Footage, judge
from vidtrack.video.spans import SpanReader

FILE = "index.json"
SAVED = 60.0  # seconds after which what was found so far is kept
_BLOCKS = 16  # parts of a file that are compared
_BLOCK = 1 << 16  # bytes of each

Progress = Callable[[int, int], None]


def build_index(
    folder: Path,
    files: Sequence[Path],
    settings: Index,
    cache: Path,
    rate: float,
    frames: int,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Footage:
    """Look through the videos that an earlier call has not seen, and choose the shots to learn from.

    Args:
        folder: the root of the videos' names.
        files: the videos, in order of their names.
        settings: see `Index`.
        cache: folder where the index is kept, as `index.json`.
        rate: frames per second that are taken.
        frames: how many a clip needs.
        progress: called with the number of videos looked through and of all that must be.
        threads: how many videos are looked through at once; the number of cores if left out.

    Raises:
        InputError: the cache can't be written.
    """
    names = [name_in(folder, path) for path in files]
    states = {name: state(path) for name, path in zip(names, files, strict=True)}
    twins = _twins(files, names, states)
    kept = Kept(cache / FILE, settings)
    films: dict[str, Film] = {}
    missing: list[tuple[Path, str]] = []
    for path, name in zip(files, names, strict=True):
        if name in twins:
            continue
        if (film := kept.film(path, name, states[name])) is not None:
            films[name] = film
        else:
            missing.append((path, name))

    def save() -> None:
        kept.save([(film, states[name]) for name, film in films.items()])

    saved = time.monotonic()
    work = in_threads(lambda item, goes_on: _watch(*item, settings, goes_on), missing, threads)
    try:
        with closing(work) as found:
            for done, film in enumerate(found):
                films[film.name] = film
                if progress is not None:
                    progress(done + 1, len(missing))
                if time.monotonic() - saved > SAVED:
                    save()
                    saved = time.monotonic()
    finally:
        save()
    ordered = [films[name] for name in names if name in films]
    return judge(ordered, twins, settings, rate, frames)


def name_in(folder: Path, path: Path) -> str:
    """What a video is called: its path within the folder of videos, with slashes; that alone, its name."""
    if path == folder:
        return path.absolute().name
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _watch(path: Path, name: str, settings: Index, goes_on: GoesOn) -> Film:
    try:
        with SpanReader(path) as reader:
            shots = find_shots(reader, name, settings, goes_on)
            missing = reader.missing()
    except (OSError, ValueError) as error:
        return Film(path, name, (), str(error))
    broken = None if shots else f"{path} holds no undamaged frame: copy or download the video again."
    return Film(path, name, tuple(shots), broken, missing if shots else 0.0)


def _twins(files: Sequence[Path], names: Sequence[str], states: dict[str, State | None]) -> dict[str, str]:
    """Files with the same bytes as an earlier one, and the name of that one."""
    sizes: defaultdict[int, list[tuple[Path, str]]] = defaultdict(list)
    for path, name in zip(files, names, strict=True):
        now = states[name]
        if now is not None and not path.is_dir():
            sizes[now[0]].append((path, name))
    twins: dict[str, str] = {}
    for size, group in sizes.items():
        first: dict[str, str] = {}
        for path, name in group if len(group) > 1 else ():
            digest = _digest(path, size)
            if digest is not None and (other := first.setdefault(digest, name)) != name:
                twins[name] = other
    return twins


def _digest(path: Path, size: int) -> str | None:
    """Hash of evenly spread parts of a file: videos of one size that differ at all differ in many places."""
    digest = hashlib.sha256()
    last = max(0, size - _BLOCK)
    try:
        with path.open("rb") as file:
            for number in range(_BLOCKS):
                file.seek(last * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    except OSError:
        return None
    return digest.hexdigest()

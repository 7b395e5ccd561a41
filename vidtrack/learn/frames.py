"""Frames of raw videos, decoded once to a cache of bounded size."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from pretrain.walk import files_below
from vidtrack.files import RESULTS, is_results
from vidtrack.learn.index.build import Progress, build_index
from vidtrack.learn.index.shots import Shot
from vidtrack.learn.index.table import table
from vidtrack.learn.index.verdicts import counted
from vidtrack.learn.packs import Part, load_parts, resized, sampled
from vidtrack.learn.settings import SPLIT, Data
from vidtrack.video import VideoReader
from vidtrack.video.container import VIDEO_SUFFIXES
from vidtrack.video.frame import DEFAULT_RATE, Frame
from vidtrack.video.images import SUFFIXES

SEGMENT = 32  # about so many frames in a row are kept of a video that is longer than its share of the cache


class NothingToLearn(InputError):
    """Videos are there, but none that can be learned from."""


@dataclass
class FrameCache:
    """Decoded frames of a folder of videos.

    Attributes:
        videos: memory-mapped uint8 `[T, H, W, 3]` RGB, one per part of a shot.
        names: the video of each: its path within the folder, with slashes.
        shots: the number of the shot that each is a part of.
        skipped: name (with the times, of a part of a video) and reason of what is not used.
        summary: what the index did with the folder, a table in plain text.
    """

    videos: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    shots: list[int] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    summary: str = ""


def list_videos(folder: Path, split: str | None, licences: Collection[str] | None = None) -> list[Path]:
    """Video files and folders of frames below `folder`, sorted; see `Data` for what `clips.csv` chooses.

    A single video file is a folder of one. Pictures beside video files are no frames but thumbnails, as
    downloaders put there (`pictures_beside` tells where). What vidtrack itself wrote is no footage: results
    of earlier calls in folders below, and what was stopped on the way to them; nor is what is hidden.

    Raises:
        InputError: no such folder, nothing to learn from in it, no `clips.csv` for a split or licences that
            are asked for, or one that names files elsewhere.
    """
    table = folder / "clips.csv"
    if split not in (None, SPLIT) and folder.exists() and not table.is_file():
        raise InputError(f"data.split={split} asks for a clips.csv in {folder}: write one, or leave it out.")
    if licences is not None and folder.exists() and not table.is_file():
        raise InputError(f"data.licences asks for a clips.csv in {folder}: write one, or leave it out.")
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise InputError(f"there is no folder or video {folder}: give a folder of videos, or one video.")
    if table.is_file():
        files = [folder / name for name in _listed(table, split, licences)]
    else:
        files, pictures = _footage(folder)
        files += pictures - {p.parent for p in files}
    if not files:
        wanted = f" of split {split!r}" + (f" and licences {', '.join(licences)}" if licences else "")
        wanted = f"{wanted} (see {table})" if table.is_file() else ""
        raise InputError(f"{folder} holds no video files{wanted}: give a folder with mp4, mov, avi... files.")
    return sorted(set(files))  # a table may list a file for each of its parts


def pictures_beside(folder: Path) -> list[Path]:
    """Folders whose pictures `list_videos` leaves out, because they lie beside video files."""
    if not folder.is_dir() or (folder / "clips.csv").is_file():
        return []
    files, pictures = _footage(folder)
    return sorted(pictures & {p.parent for p in files})


def _footage(folder: Path) -> tuple[list[Path], set[Path]]:
    """Video files below a folder, and folders below it that hold pictures."""
    entries = [p for p in files_below(folder) if not _left_out(p.relative_to(folder).parts)]
    made = {p.parent for p in entries if p.name in RESULTS and p.parent != folder and is_results(p)}
    entries = [p for p in entries if made.isdisjoint(p.parents)]
    files = [p for p in entries if p.suffix.lower() in VIDEO_SUFFIXES]
    return files, {p.parent for p in entries if p.suffix.lower() in SUFFIXES}


def _left_out(parts: tuple[str, ...]) -> bool:
    """Whether a path in a folder of videos is hidden, or of a run that was stopped."""
    return any(part.startswith(".") or part.endswith(".partial") for part in parts)


def _listed(table: Path, split: str | None, licences: Collection[str] | None) -> list[str]:
    """The files of a `clips.csv`, all of them below its folder.

    Raises:
        InputError: it can't be read, lacks a column, or names something outside.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} can't be read as CSV in UTF-8: save it again.") from error
    if rows and not {"file", "split"} <= rows[0].keys():
        raise InputError(f"{table} must have the columns file and split.")
    if licences is not None:
        if rows and "licence" not in rows[0]:
            raise InputError(f"{table} must have the column licence: data.licences asks for it.")
        rows = [row for row in rows if row["licence"] in licences]
    names: list[str] = [row["file"] or "" for row in rows if split is None or row["split"] == split]
    for name in names:
        path = Path(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
            raise InputError(f"{table} lists the file {name!r}: name files below {table.parent} only.")
    return names


def sampled_frames(
    path: Path, short_side: int, rate: float, early: Callable[[Fraction], None] | None = None
) -> Iterator[np.ndarray]:
    """The frames of a video that `rate` frames per second need, uint8 `[h, w, 3]` RGB each.

    Frames are taken by their time stamps; one slower than `rate` keeps all its frames. A frame is shrunk
    (area average) to `short_side`, never enlarged beyond it; a smaller one is enlarged. `early` is called at
    the end of a video that ends before its header says so, with the time in seconds after its last frame.
    """
    end = Fraction(0)

    def undamaged(reader: VideoReader) -> Iterator[Frame]:
        nonlocal end
        for frame in reader:
            end = frame.time + 1 / reader.info.rate
            if not frame.damaged:
                yield frame

    with VideoReader(path) as reader:
        for frame in sampled(undamaged(reader), Fraction(0), rate):
            yield resized(frame.image, short_side)
        if early is not None and reader.damage.early:
            early(end)


def shares(lengths: list[int], budget: int) -> int:
    """The largest number of frames per video so that all videos together stay within `budget` frames."""
    low, high = 1, max(lengths)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(length, middle) for length in lengths) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def segments(length: int, share: int, least: int = 1) -> list[slice]:
    """Parts of a video to keep: all of it, or runs of about `SEGMENT` frames spread evenly over it.

    None is shorter than `least`, unless `share` is.
    """
    if length <= share:
        return [slice(0, length)]
    count = max(1, min(round(share / SEGMENT), share // least))
    run = share // count
    starts = np.linspace(0, length - run, count).round().astype(int) if count > 1 else [(length - run) // 2]
    return [slice(int(start), int(start) + run) for start in starts]


def build_cache(
    folder: Path,
    settings: Data,
    cache: Path,
    min_frames: int,
    progress: Progress | None = None,
    *,
    indexing: Progress | None = None,
    announce: Callable[[str], None] | None = None,
    threads: int | None = None,
) -> FrameCache:
    """Decode the shots of a folder of videos that are worth it, or take what an earlier call left.

    The videos are looked through first (see `vidtrack.learn.index`); of the shots that this leaves, as much
    is decoded as `settings.cache_gb` hold, spread evenly. The frames don't depend on the number of threads.

    Args:
        folder: the videos.
        settings: see `Data`.
        cache: where the index and the decoded frames are kept.
        min_frames: a shorter shot is skipped.
        progress: called with the number of parts of shots decoded and of all.
        indexing: called with the number of videos looked through and of all that are new or changed.
        announce: called with what the index did, and with what will be decoded, before it is.
        threads: how many videos are decoded at once; the number of cores if left out.

    Raises:
        NothingToLearn: not one usable shot; the first reasons are named.
        InputError: see `list_videos`.
    """
    files = list_videos(folder, settings.split, settings.licences)
    tell = announce or (lambda text: None)
    footage = build_index(folder, files, settings.index, cache, settings.rate, min_frames, indexing, threads)
    result = FrameCache(skipped=[(one.name, one.why) for one in footage.dropped], summary=table(footage))
    tell(result.summary)
    for beside in pictures_beside(folder):
        why = "its pictures lie beside videos, as thumbnails do: give frames a folder of their own"
        result.skipped.append((beside.relative_to(folder.parent).as_posix(), why))
    if any(path.is_dir() for path in files):
        tell(f"folders of frames are taken to hold {float(DEFAULT_RATE):g} frames per second")
    parts = choose_parts(footage.shots, settings, min_frames)
    if parts:
        tell(_plan(parts, len(footage.shots), settings, cache))
    loaded = load_parts(parts, settings.short_side, settings.rate, cache, progress, threads)
    numbers = {shot: number for number, shot in enumerate(footage.shots)}
    for part, video in zip(parts, loaded, strict=True):
        if isinstance(video, str):
            result.skipped.append((str(part.shot), video))
        elif len(video) < min_frames:
            result.skipped.append(
                (str(part.shot), f"only {counted(len(video), 'frame')} at {settings.rate:g}/s")
            )
        else:
            result.videos.append(video)
            result.names.append(part.shot.name)
            result.shots.append(numbers[part.shot])
    if not result.videos:
        first = "; ".join(f"{name}: {why}" for name, why in result.skipped[:3])
        raise NothingToLearn(f"{folder} holds no video that can be learned from ({first}).")
    return result


def choose_parts(shots: Sequence[Shot], settings: Data, min_frames: int) -> list[Part]:
    """What of the shots to decode within `settings.cache_gb`, in their order.

    All shots have an equal share, see `segments`. Where that would be less than `min_frames`, only some of
    the shots are taken, spread evenly.
    """
    budget = int(settings.cache_gb * 1e9 / (3 * settings.short_side**2))  # in square frames
    needs = [_squares(shot, min(min_frames, shot.frames(settings.rate))) for shot in shots]
    if sum(needs) > budget:
        count = max(1, len(shots) * budget // sum(needs))
        shots = [shots[place] for place in np.linspace(0, len(shots) - 1, count).round().astype(int)]
    if not shots:
        return []
    share = shares([_squares(shot, shot.frames(settings.rate)) for shot in shots], budget)
    parts = []
    for shot in shots:
        rate = min(Fraction(settings.rate).limit_denominator(1000), shot.rate)
        kept = max(min_frames, int(share / _aspect(shot)))
        for part in segments(shot.frames(settings.rate), kept, min_frames):
            parts.append(Part(shot, shot.begin + part.start / rate, part.stop - part.start))
    return parts


def _aspect(shot: Shot) -> float:
    return max(shot.shape) / min(shot.shape)


def _squares(shot: Shot, frames: int) -> int:
    """As many square frames have the size of so many frames of a shot."""
    return math.ceil(frames * _aspect(shot))


def _plan(parts: Sequence[Part], shots: int, settings: Data, cache: Path) -> str:
    """A sentence on what will be decoded."""
    frames = sum(part.count for part in parts)
    size = sum(_squares(part.shot, part.count) for part in parts) * 3 * settings.short_side**2 / 1e9
    taken = len({part.shot for part in parts})
    left = f" (of {shots}: data.cache_gb={settings.cache_gb:g} has room for no more)" if taken < shots else ""
    return f"{frames} frames of {counted(taken, 'shot')}{left}: {size:.2g} GB in {cache}"

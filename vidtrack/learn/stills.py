"""Images out of raw videos, so that what learns from images can learn from videos, too."""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pretrain.errors import InputError
from pretrain.images import SUFFIXES as IMAGES
from pretrain.images import TARS, ImageSet, read_images, splits_among
from pretrain.walk import files_below
from vidtrack.files import atomic_file, require_free, write_json
from vidtrack.learn.frames import list_videos, sampled_frames, shares
from vidtrack.learn.index.films import DAMAGED
from vidtrack.learn.index.shots import clock
from vidtrack.learn.index.threads import GoesOn, in_threads
from vidtrack.video import probe
from vidtrack.video.container import VIDEO_SUFFIXES

FORMAT = 2  # of the cache; counted up when the same settings give other images
LEAST_RATE = 0.001  # frames per second
SLACK = 1.05  # room for a video that is longer than its container says

Progress = Callable[[int, int], None]


def read_data(
    data: Path | str,
    size: int,
    split: str | None = "train",
    limit: int | None = None,
    rate: float = 2.0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Images from whatever the user has: a tar file or folder of images, or a video or folder of videos.

    Folders with the frames of a video in image files are images like others. In a folder with images and
    videos the images count if they stand in folders of classes, or the videos if a `clips.csv` lists them.

    Args:
        data: see above.
        size, split, limit: see `pretrain.images.read_images` and `sample_stills`.
        rate, cache: of videos only, see `sample_stills`.
        progress: called with the number of images or videos done and of all.

    Raises:
        InputError: see the two functions; also for a folder with neither images nor videos, or with both
            where it is unclear which are meant.
    """
    data = Path(data)
    _check(size, rate, limit)
    if data.is_file() and not data.name.lower().endswith(TARS):
        if data.suffix.lower() not in VIDEO_SUFFIXES:
            raise InputError(
                f"{data} is no tar file and no video: give a folder or tar file of images, or videos."
            )
        return sample_stills(data, size, rate, split, limit, cache, progress)
    if data.is_dir() and _means_videos(data, split):
        return sample_stills(data, size, rate, split, limit, cache, progress)
    return read_images(data, size, split, limit, progress)


def _means_videos(folder: Path, split: str | None) -> bool:
    """Whether videos are to be read from a folder, not images."""
    if (folder / "clips.csv").is_file():
        return True
    names = [path.relative_to(folder) for path in files_below(folder)]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    images = [PurePosixPath(name.as_posix()) for name in names if name.suffix.lower() in IMAGES]
    videos = sum(name.suffix.lower() in VIDEO_SUFFIXES for name in names)
    if not images and not videos:
        raise InputError(f"{folder} holds no images and no videos: give a folder that has some.")
    if images and videos and not _class_folders(images, split):
        raise InputError(
            f"{folder} holds {len(images)} images and {videos} videos, and it is unclear which are meant: "
            "give a folder with only one of the two."
        )
    return not images


def _class_folders(images: list[PurePosixPath], split: str | None) -> bool:
    """Whether images stand in the folders of at least two classes, and none outside; see `read_images`."""
    depth, splits = splits_among(map(str, images), split) if split is not None else (0, {})
    inner = [name.parts[depth:] for name in images]
    below = [parts[1:] if parts[0] in splits.values() else parts for parts in inner]
    return all(len(parts) > 1 for parts in below) and len({parts[0] for parts in below}) > 1


def sample_stills(
    folder: Path | str,
    size: int,
    rate: float = 2.0,
    split: str | None = "train",
    limit: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Squares out of the frames of raw videos, without labels.

    `rate` frames per second are taken. A frame is resized so that its short side is `size`, and a square is
    cut out of it; where along the long side is drawn for each frame from its name, so that what happens at
    the margins is seen as often as the middle.

    The names are `clip.mp4#12`: the video's path in the folder, and the number among the frames at `rate`,
    counted from 0. A smaller `limit` gives fewer of the same images. They stand in the order of the videos'
    names, and of time. A video that goes on after the length that its container tells is read a twentieth
    further; one that ends before it is listed in `skipped`, where that was seen. No more than the images that
    are returned are held in memory.

    Args:
        folder: with videos, see `vidtrack.learn.frames.list_videos`; or one video.
        size: side in pixels.
        rate: frames per second; of a slower video all frames are taken.
        split: see `vidtrack.learn.settings.Data`.
        limit: at most so many images. All videos have an equal share of them (short ones what they have),
            spread evenly over their time; if there are more videos than images, some have none.
        cache: folder where the images are kept, for the next call with the same videos and settings.
        progress: called with the number of videos done and of all.

    Raises:
        InputError: no such folder, no video in it that can be read, or an impossible number.
    """
    folder = Path(folder)
    _check(size, rate, limit)
    if folder.is_file():
        root, files = folder.parent, [folder]
    else:
        root, files = folder, list_videos(folder, split)
    names = [file.relative_to(root).as_posix() for file in files]
    kept = None
    if cache is not None:
        kept = _Kept(Path(cache), _key(files, names, size, rate, split, limit))
        if (found := kept.load()) is not None:
            return found
    result = _sample(files, names, size, rate, limit, progress)
    if not len(result):
        first = "; ".join(f"{name}: {why}" for name, why in result.skipped[:3])
        raise InputError(f"{folder} holds no video that can be read ({first}).")
    if kept is not None:
        kept.save(result)
    return result


def _check(size: int, rate: float, limit: int | None) -> None:
    for name, value, least in (("size", size, 1), ("rate", rate, LEAST_RATE), ("limit", limit, 1)):
        if value is not None and not (value >= least and math.isfinite(value)):
            raise InputError(f"{name}={value}: give a number that is at least {least}.")


@dataclass
class _Video:
    """A video to sample: what it is called, and which of its frames at `rate` are wanted."""

    path: Path
    name: str
    wanted: list[int]


def _sample(
    files: list[Path], names: list[str], size: int, rate: float, limit: int | None, progress: Progress | None
) -> ImageSet:
    skipped: list[tuple[str, str]] = []
    usable: list[tuple[Path, str, int]] = []
    for path, name in zip(files, names, strict=True):
        try:
            usable.append((path, name, _length(path, rate)))
        except (OSError, ValueError) as error:
            skipped.append((name, str(error)))
    videos = [
        _Video(path, name, wanted)
        for (path, name, length), wanted in zip(usable, _wanted([u[2] for u in usable], limit), strict=True)
        if wanted
    ]
    starts = np.cumsum([0, *(len(video.wanted) for video in videos)])
    images = np.empty((int(starts[-1]), size, size, 3), np.uint8)  # the one place that holds images
    found: list[str] = []
    spaces = [images[a:b] for a, b in pairwise(starts)]
    pairs = list(zip(videos, spaces, strict=True))
    with closing(in_threads(lambda pair, goes_on: _fill(*pair, rate, goes_on), pairs, 2)) as work:
        for done, ((video, space), (numbers, lost)) in enumerate(zip(pairs, work, strict=True)):
            skipped += lost
            images[len(found) : len(found) + len(numbers)] = space[: len(numbers)]  # close gaps
            found += [f"{video.name}#{number}" for number in numbers]
            if progress is not None:
                progress(done + 1, len(videos))
    return ImageSet(images[: len(found)], None, (), tuple(found), sorted(skipped))


def _length(path: Path, rate: float) -> int:
    """About how many frames a video has at `rate`; those of one that doesn't tell are counted.

    Raises:
        InputError: it can't be read.
    """
    info = probe(path)
    seconds = info.duration or (info.frames / float(info.rate) if info.frames else None)
    if seconds is None:
        return sum(1 for _ in sampled_frames(path, 1, rate))
    return max(1, math.ceil(seconds * min(rate, float(info.rate)) - 1e-6))


def _wanted(lengths: list[int], limit: int | None) -> list[list[int]]:
    """Numbers of the frames to take of each video, at most `limit` in all."""
    if not lengths:
        return []
    if limit is None:
        return [list(range(math.ceil(length * SLACK) + 1)) for length in lengths]
    if limit < len(lengths):
        chosen = set(_spread(len(lengths), limit))
        return [[length // 2] if place in chosen else [] for place, length in enumerate(lengths)]
    share = shares(lengths, limit)
    counts = [min(length, share) for length in lengths]
    longer = [place for place, length in enumerate(lengths) if length > share]
    for place in _spread(len(longer), limit - sum(counts)):  # less than one more for each
        counts[longer[place]] += 1
    return [_spread(length, count) for length, count in zip(lengths, counts, strict=True)]


def _spread(length: int, count: int) -> list[int]:
    """`count` different numbers of 0 .. `length` - 1, evenly; all if there are fewer."""
    count = min(length, count)
    return [(2 * place + 1) * length // (2 * count) for place in range(count)]


def _fill(
    video: _Video, space: np.ndarray, rate: float, goes_on: GoesOn
) -> tuple[list[int], list[tuple[str, str]]]:
    """Write the wanted frames to `space`, uint8 `[N, size, size, 3]`.

    Returns:
        Their numbers, and what of the video is skipped, and why.
    """
    wanted, size = set(video.wanted), space.shape[1]
    numbers: list[int] = []
    lost: list[tuple[str, str]] = []

    def early(end: Fraction) -> None:
        lost.append((f"{video.name} from {clock(end)} on", "the file ends there too early: is it complete?"))

    try:
        for number, frame in enumerate(sampled_frames(video.path, size, rate, early)):
            if number in wanted:
                space[len(numbers)] = _square(frame, size, f"{video.name}#{number}")
                numbers.append(number)
            if number >= video.wanted[-1] or not goes_on():
                break
    except (OSError, ValueError) as error:
        return [], [(video.name, str(error))]
    return (numbers, lost) if numbers else ([], [(video.name, "it has no undamaged frame")])


def _square(frame: np.ndarray, size: int, name: str) -> np.ndarray:
    """A square of a frame uint8 `[h, w, 3]` with the short side `size`, at a place drawn from `name`."""
    height, width = frame.shape[:2]
    drawn = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
    top, left = drawn % (height - size + 1), drawn % (width - size + 1)  # one of the two is always 0
    return frame[top : top + size, left : left + size]


def _key(
    files: list[Path], names: list[str], size: int, rate: float, split: str | None, limit: int | None
) -> str:
    """Changes with everything that decides the images: the videos, told by sizes and times, and settings."""
    states = [[name, _states(path)] for path, name in zip(files, names, strict=True)]
    text = json.dumps([FORMAT, states, size, rate, split, limit])
    return hashlib.sha256(text.encode()).hexdigest()


def _states(path: Path) -> list[list[Any]]:
    try:
        parts = sorted(path.iterdir()) if path.is_dir() else [path]
        return [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in parts if part.is_file()]
    except OSError:
        return []


class _Kept:
    """Images kept in a folder: `stills-<key>.npy`, and a `.json` with their names that is written last."""

    def __init__(self, cache: Path, key: str) -> None:
        self.key = key
        self.table = require_free(cache / f"stills-{key[:16]}.json", overwrite=True)  # told before the work
        self.images = self.table.with_suffix(".npy")

    def load(self) -> ImageSet | None:
        """What an earlier call has left; None if there is nothing, or nothing whole."""
        try:
            table = json.loads(self.table.read_text(encoding="utf-8"))
            images = np.array(np.load(self.images, mmap_mode="r", allow_pickle=False))
            names = tuple(table["names"])
            if table["key"] != self.key or images.dtype != np.uint8 or images.ndim != 4:
                return None
            if len(images) != len(names):
                return None
            return ImageSet(images, None, (), names, [(name, why) for name, why in table["skipped"]])
        except (*DAMAGED, EOFError, zipfile.BadZipFile):
            return None

    def save(self, found: ImageSet) -> None:
        self.table.unlink(missing_ok=True)  # never a table of other images
        with atomic_file(self.images, overwrite=True) as partial:
            np.save(partial, found.images)
        write_json(self.table, {"key": self.key, "names": found.names, "skipped": found.skipped})

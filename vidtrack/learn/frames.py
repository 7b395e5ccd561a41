"""Frames of raw videos, decoded once to a cache of bounded size."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.learn.settings import Data
from vidtrack.video import VideoReader, probe

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".ts"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
SEGMENT = 32  # frames in a row that are kept together when a video is longer than its share of the cache


@dataclass
class FrameCache:
    """Decoded frames of a folder of videos.

    Attributes:
        videos: memory-mapped uint8 `[T, H, W, 3]` RGB, one per segment of a video.
        names: the video file of each.
        skipped: file name and reason of each video that could not be used.
    """

    videos: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def list_videos(folder: Path, split: str | None) -> list[Path]:
    """Video files and folders of frames below `folder`, sorted; see `Data.split` for `clips.csv`.

    Raises:
        InputError: no such folder, or nothing to learn from in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: --data takes a folder of video files.")
    table = folder / "clips.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and not {"file", "split"} <= rows[0].keys():
            raise InputError(f"{table} must have the columns file and split.")
        files = [folder / row["file"] for row in rows if split is None or row["split"] == split]
    else:
        entries = [p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.parts)]
        files = [p for p in entries if p.is_file() and p.suffix.lower() in VIDEO_SUFFIXES]
        files += {p.parent for p in entries if p.suffix.lower() in IMAGE_SUFFIXES}
    if not files:
        wanted = f" of split {split!r} (see {table})" if table.is_file() else ""
        raise InputError(f"{folder} holds no video files{wanted}: give a folder with mp4, mov, avi... files.")
    return sorted(files)


def sampled_frames(path: Path, short_side: int, rate: float) -> Iterator[np.ndarray]:
    """The frames of a video that `rate` frames per second need, uint8 `[h, w, 3]` RGB each.

    Frames are taken by their time stamps; one slower than `rate` keeps all its frames. A frame is shrunk
    (area average) to `short_side`, never enlarged beyond it; a smaller one is enlarged.
    """
    due = Fraction(0)
    step = Fraction(rate).limit_denominator(1000) ** -1
    with VideoReader(path) as reader:
        for frame in reader:
            if frame.damaged or frame.time < due:
                continue
            due = max(due + step, frame.time + step / 2)
            height, width = frame.image.shape[:2]
            scale = short_side / min(height, width)
            size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            yield cv2.resize(frame.image, size, interpolation=how)


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


def segments(length: int, share: int) -> list[slice]:
    """Parts of a video to keep: all of it, or runs of `SEGMENT` frames spread evenly over it."""
    if length <= share:
        return [slice(0, length)]
    run = min(SEGMENT, share)
    count = max(1, share // run)
    starts = np.linspace(0, length - run, count).round().astype(int)
    return [slice(int(start), int(start) + run) for start in starts]


def build_cache(
    folder: Path,
    settings: Data,
    cache: Path,
    min_frames: int,
    progress: Callable[[int, int], None] | None = None,
) -> FrameCache:
    """Decode all videos of a folder, or take what an earlier call with the same settings left.

    Args:
        folder: the videos.
        settings: see `Data`.
        cache: where the decoded frames are kept, one file per segment.
        min_frames: a shorter video is skipped.
        progress: called with the number of videos done and of all.

    Raises:
        InputError: not one usable video; the first reasons are named.
    """
    files = list_videos(folder, settings.split)
    cache.mkdir(parents=True, exist_ok=True)
    lengths, skipped = [], []
    usable: list[Path] = []
    for path in files:
        try:
            info = probe(path)
            seconds = info.duration or (info.frames or 250) / float(info.rate)
            frames = seconds * min(settings.rate, float(info.rate))
            aspect = max(info.width, info.height) / min(info.width, info.height)
            lengths.append(max(1, round(frames * aspect)))  # in units of one square frame
            usable.append(path)
        except (InputError, OSError, ValueError) as error:
            skipped.append((path.name, str(error)))
    budget = int(settings.cache_gb * 1e9 / (3 * settings.short_side**2))
    share = shares(lengths, budget) if lengths else 0
    result = FrameCache(skipped=skipped)
    for done, path in enumerate(usable):
        stat = path.stat()
        key = json.dumps(
            [path.name, stat.st_size, stat.st_mtime_ns, settings.short_side, settings.rate, share]
        )
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        try:
            for part in _cached(path, settings, cache / name, share):
                video = np.load(part, mmap_mode="r")
                if len(video) >= min_frames:
                    result.videos.append(video)
                    result.names.append(path.name)
                else:
                    result.skipped.append((path.name, f"only {len(video)} frames at {settings.rate:g}/s"))
        except (InputError, ValueError) as error:
            result.skipped.append((path.name, str(error)))
        if progress:
            progress(done + 1, len(usable))
    if not result.videos:
        first = "; ".join(f"{name}: {why}" for name, why in result.skipped[:3])
        raise InputError(f"{folder} holds no video that can be learned from ({first}).")
    return result


def _cached(path: Path, settings: Data, stem: Path, share: int) -> list[Path]:
    done = stem.with_suffix(".json")
    if not done.is_file():
        raw = stem.with_suffix(".raw")  # on disk: an hour of video must not fill the memory
        try:
            frames = _decode_to(raw, path, settings)
            _save_parts(frames, stem, done, path, share)
        finally:
            raw.unlink(missing_ok=True)
    count = json.loads(done.read_text())["parts"]
    return [stem.with_name(f"{stem.name}-{number}.npy") for number in range(count)]


def _decode_to(raw: Path, path: Path, settings: Data) -> np.ndarray:
    """All sampled frames of a video, uint8 `[T, h, w, 3]`, memory-mapped from the file `raw`."""
    count, shape = 0, (0, 0, 0)
    with raw.open("wb") as file:
        for frame in sampled_frames(path, settings.short_side, settings.rate):
            file.write(frame.tobytes())
            count, shape = count + 1, frame.shape
    if not count:
        raise InputError(f"{path} has no undamaged frame.")
    return np.memmap(raw, np.uint8, "r", shape=(count, *shape))


def _save_parts(frames: np.ndarray, stem: Path, done: Path, path: Path, share: int) -> None:
    aspect = max(frames.shape[1:3]) / min(frames.shape[1:3])
    parts = segments(len(frames), max(1, int(share / aspect)))
    for number, part in enumerate(parts):
        with atomic_file(stem.with_name(f"{stem.name}-{number}.npy"), overwrite=True) as partial:
            np.save(partial, frames[part])
    with atomic_file(done, overwrite=True) as partial:
        partial.write_text(json.dumps({"video": path.name, "parts": len(parts)}))

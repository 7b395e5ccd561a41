"""Clips that are never trained on: from which videos they come, and where they lie in them."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pretrain.config import Config

SPLIT = "val"  # of `clips.csv`
SHARE, MOST = 10, 16  # without such a split one video in ten is held out, at most sixteen
ZOOM = (0.5, 0.75)  # side of the second view: what is at one place must be at another in the first


class HeldOut(Config):
    """Which clips a model is validated on: `clips` of `frames` frames, `gap` sampled frames apart.

    `seed` decides times and places. It is not the run's, so that different runs are scored on the same clips.
    """

    clips: int = Field(default=32, ge=1)
    frames: int = Field(default=4, ge=2)
    gap: int = Field(default=2, ge=1)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Clips in two views.

    Attributes:
        frames: uint8 `[N, T, 3, S, S]`, the first view.
        windows: float `[N, 4]`, the second view, see `vidtrack.learn.clips.warp_grid`.
        names: the video of each.
    """

    frames: Tensor
    windows: Tensor
    names: tuple[str, ...]


def has_split(folder: Path) -> bool:
    """Whether `clips.csv` of a folder of videos names some for validation."""
    table = folder / "clips.csv"
    if not table.is_file():
        return False
    with table.open(newline="", encoding="utf-8-sig") as file:
        return any(row.get("split") == SPLIT for row in csv.DictReader(file))


def held_out(names: Sequence[str]) -> frozenset[str]:
    """The videos to hold out where no split does: those with the lowest hashes of their names.

    One in ten, at most 16; none of fewer than ten, which are all needed to learn from.
    """
    distinct = sorted(set(names), key=lambda name: hashlib.sha256(os.fsencode(name)).hexdigest())
    return frozenset(distinct[: min(len(distinct) // SHARE, MOST)])


def choose_clips(
    videos: Sequence[np.ndarray], names: Sequence[str], settings: HeldOut, size: int
) -> ClipSet | None:
    """The validation clips of some videos: evenly over the videos, a function of the seed and the videos.

    Args:
        videos: uint8 `[T, H, W, 3]` RGB, short side at least `size`; several may be parts of one video.
        names: of the video that each belongs to.
        settings: see `HeldOut`. Where a video is too short for `gap`, its frames are closer together; with
            fewer frames than a clip it is left out.
        size: side of the clips in pixels; the frames are cropped, not scaled.

    Returns:
        None if no video is long enough.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for name, video in sorted(zip(names, videos, strict=True), key=lambda pair: pair[0]):
        if len(video) >= settings.frames:
            parts.setdefault(name, []).append(video)
    if not parts:
        return None
    sources = list(parts)
    # Several clips of a video lie in equal stretches of it, one in each.
    places = [(2 * clip + 1) * len(sources) // (2 * settings.clips) for clip in range(settings.clips)]
    frames, windows = [], []
    for clip, place in enumerate(places):
        rng = np.random.default_rng([settings.seed, clip])
        number, count = clip - places.index(place), places.count(place)
        frames.append(_cut(parts[sources[place]], (number + rng.random()) / count, rng, settings, size))
        side = rng.uniform(*ZOOM)
        x, y = rng.uniform(0, 1 - side, size=2)
        windows.append([x, y, side, float(clip % 2)])
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3).contiguous()
    return ClipSet(
        stacked, torch.tensor(windows, dtype=torch.float32), tuple(sources[place] for place in places)
    )


def _cut(
    parts: Sequence[np.ndarray], when: float, rng: np.random.Generator, settings: HeldOut, size: int
) -> np.ndarray:
    """The frames uint8 `[T, size, size, 3]` at a moment 0..1 of all parts of a video, somewhere in them."""
    position = when * len(parts)
    video = parts[int(position)]
    gap = min(settings.gap, (len(video) - 1) // (settings.frames - 1))
    room = len(video) - 1 - gap * (settings.frames - 1)
    start = round((position - int(position)) * room)
    top, left = (int(rng.integers(0, length - size + 1)) for length in video.shape[1:3])
    chosen = video[start : start + gap * (settings.frames - 1) + 1 : gap]
    return np.asarray(chosen[:, top : top + size, left : left + size])

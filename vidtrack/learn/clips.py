"""Training clips: a few frames of one video in two views that differ by a known flip and zoom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.config import Config
from pretrain.sampler import Draw, draw_rng
from vidtrack.learn.packs import resized

Square = tuple[int, int, int]  # top, left and side, in pixels
Scale = Annotated[float, Field(ge=0.1, le=10)]
Zoom = Annotated[float, Field(ge=0.1, le=1)]


def _ordered(pair: Any) -> Any:
    if pair[0] > pair[1]:
        raise ValueError("it must be two numbers, the smaller one first")
    return pair


class Clips(Config):
    """How a training clip is drawn: `frames` frames, `gap` sampled frames apart, cropped to `crop`
    pixels; the second view is a zoom-in on `zoom` of the crop's side, mirrored with probability `flip`.

    The square that a clip shows is `scale` times as wide as `crop`, drawn from that range evenly in its
    logarithm (at most the whole short side), and resized to it. `scale_jitter` makes it wider or narrower for
    each frame alone, by a factor of `exp(-scale_jitter)` to `exp(scale_jitter)` about the same centre, as if
    the camera went away or came closer: things keep their embedding while they shrink and grow.
    """

    frames: int = Field(default=4, ge=2)
    gap: Annotated[tuple[Annotated[int, Field(ge=1)], int], AfterValidator(_ordered)] = (1, 3)
    crop: int = Field(default=128, ge=16)
    scale: Annotated[tuple[Scale, Scale], AfterValidator(_ordered)] = (1.0, 1.0)
    scale_jitter: float = Field(default=0.0, ge=0, le=2)
    zoom: Annotated[tuple[Zoom, Zoom], AfterValidator(_ordered)] = (0.5, 1.0)
    flip: float = Field(default=0.5, ge=0, le=1)
    permute: bool = True


@dataclass
class Clip:
    """One drawn clip.

    Attributes:
        frames: uint8 `[T, crop, crop, 3]` RGB, the first view.
        window: `(x, y, side, mirrored)` of the second view within the first, in units of the crop's side.
    """

    frames: np.ndarray
    window: tuple[float, float, float, bool]


class ClipDataset(Dataset[Clip]):
    """Draws clips from decoded videos; the randomness comes from the draw alone.

    Args:
        videos: uint8 `[T, H, W, 3]` each, short side at least `settings.crop`.
        settings: see `Clips`.
        shots: what each is a part of: all shots are drawn equally often, however many parts of them are at
            hand, and their parts as well. If left out, each is a shot.
    """

    def __init__(self, videos: Sequence[np.ndarray], settings: Clips, shots: Sequence[int] = ()) -> None:
        self.settings = settings
        parts: dict[int, list[np.ndarray]] = {}
        for shot, video in zip(shots or range(len(videos)), videos, strict=True):
            parts.setdefault(shot, []).append(video)
        self.shots = list(parts.values())

    def __len__(self) -> int:
        return len(self.shots)

    def __getitem__(self, draw: Draw) -> Clip:
        settings, rng = self.settings, draw_rng(draw)
        parts = self.shots[draw[-1]]
        video = parts[0] if len(parts) == 1 else parts[int(rng.integers(len(parts)))]
        count = settings.frames
        low, high = settings.gap
        widest = (len(video) - 1) // max(1, count - 1)  # short videos take a smaller gap
        gap = int(rng.integers(min(low, widest), min(high, widest) + 1))
        start = int(rng.integers(0, len(video) - gap * (count - 1)))
        order = start + gap * (rng.permutation(count) if settings.permute else np.arange(count))
        squares = draw_squares(video.shape[1], video.shape[2], settings, rng)
        frames = np.stack([cropped(video[i], squares[n], settings.crop) for n, i in enumerate(order)])
        if rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        side = float(rng.uniform(*settings.zoom))
        x, y = (float(v) for v in rng.uniform(0, 1 - side, size=2))
        return Clip(np.ascontiguousarray(frames), (x, y, side, bool(rng.random() < settings.flip)))


def draw_squares(height: int, width: int, settings: Clips, rng: np.random.Generator) -> list[Square]:
    """What each frame of a clip shows of `height` x `width` pixels: about one centre, but for the border."""
    (low, high), jitter, most = settings.scale, settings.scale_jitter, min(height, width)
    scale = math.exp(rng.uniform(math.log(low), math.log(high))) if low < high else low
    side = max(1, min(round(settings.crop * scale), most))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    if jitter == 0:
        return [(top, left, side)] * settings.frames
    found = []
    for factor in np.exp(rng.uniform(-jitter, jitter, size=settings.frames)):
        own = max(1, min(round(side * factor), most))
        shift = (side - own) // 2
        found.append((_within(top + shift, own, height), _within(left + shift, own, width), own))
    return found


def _within(start: int, side: int, length: int) -> int:
    return max(0, min(start, length - side))


def cropped(image: np.ndarray, square: Square, crop: int) -> np.ndarray:
    """uint8 `[H, W, 3]` to what the square shows of it, `[crop, crop, 3]`."""
    top, left, side = square
    part = image[top : top + side, left : left + side]  # [side, side, 3]
    return part if side == crop else resized(part, crop)


def collate(clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """Batch of clips: uint8 `[B, T, 3, H, W]` and the windows float `[B, 4]` (x, y, side, mirrored)."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    windows = torch.tensor([[*clip.window[:3], float(clip.window[3])] for clip in clips])
    return frames.permute(0, 1, 4, 2, 3), windows


def warp_grid(windows: Tensor, size: int) -> Tensor:
    """Where each place of the second view lies in the first.

    Args:
        windows: `[B, 4]`: x, y, side (units of the first view's side), mirrored (0 or 1).
        size: places per side of the second view.

    Returns:
        `[B, size, size, 2]`: (x, y) in units of the first view's side, 0..1.
    """
    place = (torch.arange(size, device=windows.device) + 0.5) / size  # centres, [size]
    x, y, side, mirrored = windows.unbind(dim=1)
    across = torch.where(mirrored[:, None] > 0, 1 - place, place)  # [B, size]
    columns = x[:, None] + side[:, None] * across
    rows = y[:, None] + side[:, None] * place
    shape = (len(windows), size, size)
    return torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1)


def second_view(frames: Tensor, windows: Tensor) -> Tensor:
    """Warp the first view `[B, T, 3, H, H]` (0..1) to the second, bilinear; same shape."""
    batch, count, channels, height, width = frames.shape
    grid = warp_grid(windows, height) * 2 - 1
    flat = frames.reshape(batch, count * channels, height, width)
    warped = F.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.reshape(frames.shape)


def nearest_cells(windows: Tensor, cells: int) -> Tensor:
    """For each cell of the second view the cell of the first that holds it: int64 `[B, cells²]`."""
    place = (warp_grid(windows, cells) * cells).floor().long().clamp(0, cells - 1)  # [B, c, c, 2]
    return (place[..., 1] * cells + place[..., 0]).flatten(1)


def to_float(frames: Tensor) -> Tensor:
    """uint8 0..255 to float 0..1."""
    return frames.float().div_(255)

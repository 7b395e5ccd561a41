"""The typed config of `vidtrack train`."""

from __future__ import annotations

from typing import Literal

from pretrain.config import Config
from pretrain.engine import Engine, Optimizer
from vidtrack.model.colorizer import Model
from vidtrack.propagate.settings import Propagation


class Data(Config):
    """Which frames are learned from.

    Videos are decoded once to frames of `short_side` pixels at `rate` frames per second, at most
    `cache_gb` in all. If the folder holds a `clips.csv` with the columns `file` and `split`, only files
    of `split` are used (null: all).
    """

    short_side: int = 160
    rate: float = 6.0
    cache_gb: float = 8.0
    cache: str | None = None
    split: str | None = "train"


class Clips(Config):
    """How a training clip is drawn: `frames` frames, `gap` sampled frames apart, cropped to `crop`
    pixels; the second view is a zoom-in on `zoom` of the crop's side, mirrored with probability `flip`."""

    frames: int = 4
    gap: tuple[int, int] = (1, 3)
    crop: int = 128
    zoom: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5
    permute: bool = True


class Anchors(Config):
    """Settings of the anchor objective; see `vidtrack.learn.anchors`."""

    grid: int = 6
    temperature: float = 0.05
    cross_view: float = 0.1
    cross_grid: int = 4


class Colorization(Config):
    """Settings of the classic objective; see `vidtrack.learn.colorization`."""

    colors: int = 16
    temperature: float = 0.05
    sampled_pixels: int = 50_000


class TrackConfig(Config):
    """The whole config of a run of `vidtrack train`."""

    objective: Literal["anchors", "colorization"] = "anchors"
    seed: int = 0
    data: Data = Data()
    clips: Clips = Clips()
    model: Model = Model()
    anchors: Anchors = Anchors()
    colorization: Colorization = Colorization()
    optimizer: Optimizer = Optimizer()
    engine: Engine = Engine()
    propagation: Propagation = Propagation()

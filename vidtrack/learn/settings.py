"""The typed config of `vidtrack train`."""

from __future__ import annotations

from typing import get_args

from pydantic import Field

from pretrain.config import Config
from pretrain.ema import Ema
from pretrain.engine import Engine, Optimizer, all_warm_up
from vidtrack.learn.clips import Clips
from vidtrack.learn.index.settings import Index
from vidtrack.learn.objectives.anchors import Anchors
from vidtrack.learn.objectives.base import Name, Weights
from vidtrack.learn.objectives.cycle import Cycle
from vidtrack.learn.objectives.lab import Lab
from vidtrack.learn.objectives.quantized import Quantized
from vidtrack.learn.transfer import Transfer
from vidtrack.learn.validate import Validation
from vidtrack.model.colorizer import Model
from vidtrack.propagate.settings import Propagation

SPLIT = "train"  # what is learned from where `clips.csv` says it; without one, everything


class Data(Config):
    """Which frames are learned from.

    Videos are decoded once to frames of `short_side` pixels at `rate` frames per second, at most
    `cache_gb` for one run. They are kept in the folder `cache` for others (and stay there when its settings
    change: it is yours to empty); without it in that of the run until it is finished. If the folder of videos
    holds a `clips.csv` with the columns `file` and `split`, only files of `split` are used (null: all), and
    with `licences` only those whose column `licence` is one of these.
    `index` says which shots of them.
    """

    short_side: int = Field(default=160, ge=8)
    rate: float = Field(default=6.0, gt=0)
    cache_gb: float = Field(default=8.0, gt=0)
    cache: str | None = None
    split: str | None = SPLIT
    licences: tuple[str, ...] | None = None
    index: Index = Index()


class TrackConfig(Config):
    """The whole config of a run of `vidtrack train`.

    `objectives` are the names of those to learn by, each with its weight in the loss, above 0; the
    settings of each stand in a section of its name. `tracker` is one to go on from (see
    `vidtrack.learn.start`), which has a model of its own.
    """

    objectives: Weights = Field(default={"anchors": 1.0})
    seed: int = Field(default=0, ge=0)
    tracker: str | None = None
    data: Data = Data()
    clips: Clips = Clips()
    model: Model = Model()
    transfer: Transfer = Transfer()
    anchors: Anchors = Anchors()
    quantized: Quantized = Quantized()
    lab: Lab = Lab()
    cycle: Cycle = Cycle()
    optimizer: Optimizer = Optimizer()
    ema: Ema = Ema()
    validation: Validation = Validation()
    engine: Engine = Engine()
    propagation: Propagation = Propagation()


def without_effect(config: TrackConfig) -> list[str]:
    """Sentences on what a config sets in vain, or against its purpose."""
    found = all_warm_up(config.optimizer)
    for name in get_args(Name):
        if name not in config.objectives and (section := getattr(config, name)) != type(section)():
            learned = ", ".join(config.objectives)
            found.append(
                f"settings of {name} have no effect: the run learns by {learned} "
                f"(objectives.{name}=1 adds it)"
            )
    begins = config.tracker is not None or config.model.backbone != Model().backbone
    if config.transfer != Transfer() and not begins:
        found.append(
            f"settings of transfer are for a pretrained start, and {config.model.backbone} has random "
            "weights: give --backbone a file, a run or timm:NAME, or give --tracker"
        )
    return found

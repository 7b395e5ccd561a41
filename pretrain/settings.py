"""The typed config of `vidtrack pretrain`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from pretrain.catalogue import SMALL, Backbone
from pretrain.config import Config
from pretrain.engine import Engine, Optimizer
from pretrain.methods import method_class


class Data(Config):
    """Which images are learned from.

    `size` is the side in pixels of what the backbone sees. Images are decoded once to squares of `stored`
    pixels (null: `size` up to 64 pixels, else a quarter more, so that crops have something to choose from).
    Of folders of videos, `rate` frames per second are taken. At most `limit` images are used (null: all),
    spread evenly. Where the data has a `clips.csv` or split folders, only `split` is used. `cache` keeps the
    decoded frames of videos for other runs.
    """

    size: int = Field(default=128, ge=8)
    stored: int | None = None
    split: str | None = "train"
    rate: float = Field(default=2.0, gt=0)
    limit: int | None = Field(default=None, ge=1)
    cache: str | None = None

    def side(self) -> int:
        """Side of the stored squares in pixels."""
        if self.stored is not None:
            return self.stored
        return self.size if self.size <= SMALL else self.size * 5 // 4


class PretrainConfig(Config):
    """What the configs of all methods share; that of a method also has a key of the method's name.

    `snapshots` backbone files are kept along the way, evenly spaced, the last one at the end.
    """

    method: str
    seed: int = Field(default=0, ge=0)
    snapshots: int = Field(default=0, ge=0)
    data: Data = Data()
    backbone: Backbone = Backbone()
    optimizer: Optimizer = Optimizer()
    engine: Engine = Engine()

    def of_method(self) -> Any:
        """The settings of the method itself."""
        return getattr(self, self.method)


def schema(method: str) -> type[PretrainConfig]:
    """The config of a method: `PretrainConfig` and a key of the method's name with its settings.

    Raises:
        InputError: there is no such method.
    """
    settings = method_class(method).Settings
    fields: dict[str, Any] = {"method": (str, method), method: (settings, settings())}
    return create_model(f"{method}Config", __base__=PretrainConfig, **fields)

"""A small pretext task with everything that one can have, and a run of it: what tests of runs share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretrain import methods
from pretrain.catalogue import FILE
from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.images import ImageSet
from pretrain.methods.base import Method, Views
from pretrain.run import MODEL, SNAPSHOTS, pretrain
from pretrain.settings import Data, PretrainConfig, schema

SIZE = 16


class ToySettings(Config):
    """`norm`: whether there is a batch norm."""

    norm: bool = True


class Toy(Method):
    """Is the image upside down? With everything a method can have: statistics, a buffer, a group, noise."""

    Settings: ClassVar[type[Config]] = ToySettings
    shade: Tensor
    moved: Tensor

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.head: nn.Module = nn.Linear(4, 1)
        if settings.norm:
            self.head = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.register_buffer("shade", torch.zeros(3))
        self.register_buffer("moved", torch.zeros(()))

    @classmethod
    def make_backbone(cls, make: Any, settings: Any) -> nn.Module:
        return TinyNet()

    def prepare(self, images: np.ndarray, seed: int) -> None:
        self.shade.copy_(torch.from_numpy(images.mean(axis=(0, 1, 2))) / 255)

    def views(self, images: Tensor, draws: Draws) -> Views:
        turned = draws.chance(0.5)
        images = images + 0.1 * draws.normal(3, 1, 1) - self.shade.view(3, 1, 1)
        return {"images": images.flip(2).where(turned[:, None, None, None], images), "turned": turned.float()}

    def loss(self, views: Views) -> dict[str, Tensor]:
        scores = self.head(self.backbone(views["images"])["layer1"].mean(dim=(2, 3)).float())[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(scores, views["turned"])
        return {"loss": loss, "accuracy": ((scores > 0).float() == views["turned"]).float().mean()}

    def after_step(self, step: int, steps: int) -> None:
        self.moved.add_(step / steps)

    def groups(self) -> list[dict[str, Any]]:
        own = {"params": list(self.head.parameters()), "lr": 0.01}
        return [{"params": list(self.backbone.parameters())}, own]


class TinyNet(nn.Module):
    """A backbone of one convolution."""

    channels: ClassVar = {"layer1": 4}
    strides: ClassVar = {"layer1": 4}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, stride=4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer1": self.conv(images).relu()}

    def description(self) -> dict[str, Any]:
        return {"arch": "tiny"}


def add_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `toy` one of the methods."""
    monkeypatch.setitem(methods.METHODS, "toy", "Toy")
    real = methods.import_module
    here = type("module", (), {"Toy": Toy})
    monkeypatch.setattr(methods, "import_module", lambda name: here if name.endswith(".toy") else real(name))


def pictures(count: int = 12, skipped: int = 0, seed: int = 0) -> Callable[[Data], ImageSet]:
    """Reads images that are brighter above."""

    def read(data: Data) -> ImageSet:
        rng = np.random.default_rng(seed)
        side = data.side()
        images = rng.integers(0, 100, (count, side, side, 3)) + np.linspace(150, 0, side)[:, None, None]
        bad = [(f"bad{number}.png", "it is no image") for number in range(skipped)]
        return ImageSet(images.astype(np.uint8), None, (), tuple(f"{n}.png" for n in range(count)), bad)

    return read


def config(**changes: Any) -> PretrainConfig:
    values: dict[str, Any] = {
        "data": {"size": SIZE},
        "optimizer": {"steps": 6, "batch": 4, "warmup_steps": 1, "learning_rate": 1e-2},
        "engine": {"precision": "32", "log_every": 1},
        "snapshots": 3,
    }
    return schema("toy").model_validate(values | changes)


def stop_at(step: int, number: int = signal.SIGINT) -> Callable[[dict[str, float]], None]:
    """Ctrl-C, or another signal, after a step."""

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == step:
            os.kill(os.getpid(), number)

    return interrupt


def run(out: Path, settings: PretrainConfig | None = None, **options: Any) -> Any:
    read = options.pop("read", pictures())
    return pretrain(read, settings or config(), out, device="cpu", **options)


def products(out: Path) -> dict[str, bytes]:
    files = [out / FILE, out / MODEL, *sorted((out / SNAPSHOTS).glob("*"))]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}

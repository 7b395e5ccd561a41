"""What every pretext task is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.pictures import Picture

Views = dict[str, Tensor]


class Method(nn.Module, ABC):
    """A pretext task: it makes its own inputs and labels from images, and has a loss.

    Subclasses set `Settings`, build their heads in `__init__(backbone, settings, size)`, and write `views`
    and `loss`. Everything random comes from the draws. What is random at construction comes from torch's
    global generator, which the run seeds.

    Args:
        backbone: see `pretrain.backbones`.
        size: side in pixels of the images that the backbone sees.

    Attributes:
        Settings: the typed settings of the method.
        whole_steps: whether the loss, or what follows a step, is of all images of a step together, so that
            they can't come in several batches.
        backbone: what is learned.
    """

    Settings: ClassVar[type[Config]] = Config
    whole_steps: ClassVar[bool] = False

    def __init__(self, backbone: nn.Module, size: int) -> None:
        super().__init__()
        self.backbone, self.size = backbone, size

    @classmethod
    def make_backbone(cls, make: Any, settings: Any) -> nn.Module:
        """The backbone to learn, from `make(**changes)`; some methods need another input than RGB."""
        backbone: nn.Module = make()
        return backbone

    def prepare(self, images: np.ndarray, seed: int) -> None:
        """Take statistics of the training images, uint8 `[N, S, S, 3]`, before the first step.

        What it finds must be kept in buffers, so that a resumed run has it too.
        """

    @abstractmethod
    def views(self, images: Tensor, draws: Draws) -> Views:
        """Make inputs and labels. Called without gradients and in float32.

        Args:
            images: float `[N, 3, S, S]` in 0..1, S at least `size`.
            draws: all that is random.
        """

    @abstractmethod
    def loss(self, views: Views) -> dict[str, Tensor]:
        """`loss`, and whatever else is worth logging, from what `views` gave. Called under autocast."""

    def after_step(self, step: int, steps: int) -> None:
        """Called after each step of the optimizer: momentum encoders move here."""

    def trunk(self) -> nn.Module:
        """What is kept as the backbone file."""
        return self.backbone

    def groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with options of the optimizer, such as `lr`; default: all alike."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Pictures of what the method does with some images `[N, 3, size, size]` in 0..1."""
        return []


def full_precision(like: Tensor) -> torch.autocast:
    """A context without autocast: losses are computed in float32."""
    return torch.autocast(like.device.type, enabled=False)


def deepest(maps: dict[str, Tensor]) -> Tensor:
    """The last feature map `[N, C, h, w]`."""
    return list(maps.values())[-1]


def pooled(maps: dict[str, Tensor]) -> Tensor:
    """The mean over the places of the last feature map, float32 `[N, C]`."""
    return deepest(maps).float().mean(dim=(2, 3))


def width(backbone: Any) -> int:
    """Channels of the last feature map."""
    return int(list(backbone.channels.values())[-1])

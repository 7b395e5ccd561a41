"""Rotation: which of four ways up is it?

Gidaris, Singh, Komodakis 2018, "Unsupervised Representation Learning by Predicting Image Rotations" (arXiv
1803.07728). To tell, a network has to know what things look like the right way up.

As in the paper: all four rotations of an image are in the same batch, and they are exact, so that no traces
of interpolation tell them apart. What differs, for runs of minutes on a CPU: a ResNet and AdamW instead of
network-in-network or AlexNet and SGD, and the answer comes from pooled features, which are what is used
downstream.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.methods.base import Method, Views, full_precision, pooled, width
from pretrain.methods.crop import Scale
from pretrain.pictures import Picture, sheet
from pretrain.views import Chance, random_resized_crop

TURNS = 4


class RotationSettings(Config):
    """Settings of `Rotation`.

    Attributes:
        scale: area of the random crop, as a share of the image.
        flip: chance of a mirrored crop.
    """

    scale: Scale = (0.5, 1.0)
    flip: Chance = 0.5


class Rotation(Method):
    """Four-way classification of the rotation of the whole image, from pooled features.

    Args:
        backbone: see `Method`.
        settings: see `RotationSettings`.
        size: side of the images in pixels.
    """

    Settings: ClassVar[type[Config]] = RotationSettings

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings = settings
        self.head = nn.Linear(width(backbone), TURNS)

    def views(self, images: Tensor, draws: Draws) -> Views:
        """All four rotations of a random crop: `images` `[4 N, 3, size, size]`, `turns` int64 `[4 N]`."""
        crops = random_resized_crop(
            images, draws, self.size, scale=self.settings.scale, flip=self.settings.flip
        )
        return all_turns(crops)

    def loss(self, views: Views) -> dict[str, Tensor]:
        features = pooled(self.backbone(views["images"]))  # [4 N, C]
        with full_precision(features):
            scores = self.head(features)  # [4 N, 4]
            loss = F.cross_entropy(scores, views["turns"])
        accuracy = (scores.argmax(dim=1) == views["turns"]).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    @torch.no_grad()
    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Turned images, and the same ones turned back by what the method says."""
        turns = draws.integers(TURNS)
        turned = torch.stack([turn(image, int(k)) for image, k in zip(images, turns, strict=True)])
        scores = self.head(pooled(self.backbone(turned)))
        found = scores.argmax(dim=1)
        back = torch.stack([turn(image, -int(k)) for image, k in zip(turned, found, strict=True)])
        right = int((found.cpu() == turns.cpu()).sum())
        pairs = torch.stack([turned, back], dim=1).flatten(0, 1)
        caption = (
            f"Beside each turned image the way up that the method found; {right} of {len(images)} right."
        )
        return [Picture("Rotations", sheet(pairs, 8), caption)]


def turn(images: Tensor, quarters: int) -> Tensor:
    """Turn `[..., H, H]` counter-clockwise by quarters; exact, no interpolation."""
    return torch.rot90(images, quarters, dims=(-2, -1))


def all_turns(images: Tensor) -> Views:
    """All four rotations of images `[N, 3, H, H]`, those of one quarter together: see `Rotation.views`."""
    turned = torch.cat([turn(images, quarters) for quarters in range(TURNS)])
    turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
    return {"images": turned, "turns": turns}

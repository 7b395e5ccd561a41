"""The video colorization model: a backbone, a projection head, and pointers that copy reference values."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.backbones import Padding, build
from pretrain.config import Config


class Model(Config):
    """Settings of `VideoColorizer`.

    `backbone` is a name or a file (see `pretrain.backbones.build`); `input` is "rgb", or "l" for models
    that learn from gray video; `padding` is what convolutions see beyond the edge of the image (see
    `pretrain.backbones.ResNet`; null: what the backbone file says, else zeros); `head` holds the hidden and
    output channels of the projection; `embedding` says what the tracker compares: layer3, the head's
    output, or both concatenated.
    """

    backbone: str = "resnet18"
    input: Literal["rgb", "l"] = "rgb"
    zero_init: bool = True
    padding: Padding | None = None
    head: tuple[int, int] = (256, 128)
    embedding: Literal["layer3", "head", "concat"] = "layer3"


class VideoColorizer(nn.Module):
    """Learns to point from every place of a frame to the places of other frames its colour came from.

    After Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos" (arXiv 1806.09594), with the
    encoder of its successors: ResNet-18 up to layer3, which keeps stride 8 (Jabri et al. 2020,
    arXiv 2006.14613).

    Attributes:
        stride: pixels per cell (8).
    """

    stride = 8

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = build(
            settings.backbone,
            "layer3",
            ("layer3",),
            settings.input,
            zero_init=settings.zero_init,
            padding=settings.padding,
        )
        channels = self.backbone.channels["layer3"]
        hidden, out = settings.head
        self.head = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """What the objectives compare: `[N, 3, H, W]` in 0..1 to unit vectors `[N, D, H/8, W/8]`."""
        return F.normalize(self.head(self.backbone(images)["layer3"]).float(), dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """What the tracker compares: `[N, 3, H, W]` in 0..1 to unit vectors `[N, C, H/8, W/8]`.

        H and W must be multiples of 8. "concat" joins layer3 and the head with equal weight.
        """
        return self.unit(self.backbone(images)["layer3"])

    def unit(self, features: Tensor) -> Tensor:
        """The second half of `embed`: layer3 `[N, 256, h, w]` to unit vectors `[N, C, h, w]`."""
        parts = []
        if self.settings.embedding != "head":
            parts.append(F.normalize(features, dim=1))
        if self.settings.embedding != "layer3":
            parts.append(F.normalize(self.head(features), dim=1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) * 0.5**0.5


def copy_values(
    query: Tensor, references: Tensor, values: Tensor, temperature: float, hidden: Tensor | None = None
) -> Tensor:
    """Pointer attention: each query cell copies the reference values that its embedding points to.

    Args:
        query: embeddings `[B, D, N]` of the query frame's cells.
        references: embeddings `[B, D, M]` of all reference cells.
        values: `[B, K, M]`, e.g. one-hot colours.
        temperature: the softmax is over `query . reference / temperature`.
        hidden: bool `[N, M]`: the reference cells that a query cell can't point to; never all of them.

    Returns:
        `[B, K, N]`: for each query cell the weighted mean of the reference values.
    """
    scores = torch.einsum("bdn,bdm->bnm", query, references) / temperature
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.einsum("bnm,bkm->bkn", scores.softmax(dim=-1), values)

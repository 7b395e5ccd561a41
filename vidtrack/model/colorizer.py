"""The video colorization model: a backbone, a projection head, and pointers that copy reference values."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.backbones import Padding
from pretrain.config import Config
from vidtrack.model.trunk import cells_of, last_map, make_trunk, rebuild_trunk

Channels = Annotated[int, Field(ge=1, le=8192)]  # what a file asks for is not just allocated


class Model(Config):
    """Settings of `VideoColorizer`.

    `backbone` is a name, a backbone file, the folder of a run of `vidtrack pretrain`, or `timm:NAME` (see
    `vidtrack.model.trunk.make_trunk`); `input` is "rgb", or "l" for models that learn from gray video, and
    with `zero_init` each residual block starts as identity, `share` is the share of the standard number of
    channels (0.5: half of them, a quarter of the work), all of ResNets that begin with random weights;
    `padding` is what convolutions see beyond the edge of the image (see `pretrain.backbones.ResNet`; null:
    what the backbone file says, and "replicate" where the weights begin at random). `head` holds the hidden
    and output channels of the projection; `embedding` says what the tracker compares: the trunk's features
    ("layer3"), the head's output, or both.

    `companion` is a second backbone, which stays as it is: the tracker compares its features, too, so that
    an image-level and a correspondence embedding complement each other (SFC: Hu et al., ECCV 2022). Its
    similarity counts `companion_weight` times that of the rest.
    """

    backbone: str = "resnet18"
    input: Literal["rgb", "l"] = "rgb"
    zero_init: bool = True
    share: float = Field(default=1.0, gt=0, le=1)
    padding: Padding | None = None
    head: tuple[Channels, Channels] = (256, 128)
    embedding: Literal["layer3", "head", "concat"] = "layer3"
    companion: str | None = None
    companion_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class VideoColorizer(nn.Module):
    """Learns to point from every place of a frame to the places of other frames its colour came from.

    After Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos" (arXiv 1806.09594), with the
    encoder of its successors: ResNet-18 up to layer3, which keeps stride 8 (Jabri et al. 2020,
    arXiv 2006.14613). Other backbones have cells of their own size.

    Args:
        settings: see `Model`.
        trunks: descriptions of the backbone and its companion, to build them without the files that
            `settings` names; their weights are random then.

    Attributes:
        stride: pixels per cell.
        channels: of the trunk's features.
    """

    stride = 8

    def __init__(self, settings: Model, trunks: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.backbone: Any = (
            rebuild_trunk(trunks["backbone"])
            if trunks
            else make_trunk(
                settings.backbone, settings.input, settings.zero_init, settings.padding, settings.share
            )
        )
        self.stride, self.channels = cells_of(self.backbone)
        hidden, out = settings.head
        self.head = nn.Sequential(
            nn.Conv2d(self.channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out, 1),
        )
        self.companion: Any = None
        if settings.companion is not None:
            made = rebuild_trunk(trunks["companion"]) if trunks else make_trunk(settings.companion)
            self.companion = made.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> VideoColorizer:
        """As of any module, but the companion never learns."""
        super().train(mode)
        if self.companion is not None:
            self.companion.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """What the objectives compare: `[N, 3, H, W]` in 0..1 to unit vectors `[N, D, H/8, W/8]`."""
        return F.normalize(self.head(last_map(self.backbone, images)).float(), dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """What the tracker compares: `[N, 3, H, W]` in 0..1 to unit vectors `[N, C, H/8, W/8]`.

        H and W must be multiples of the stride, here 8. "concat" joins features and head with equal weight.
        """
        other = None if self.companion is None else last_map(self.companion, images)
        return self.unit(last_map(self.backbone, images), other)

    def unit(self, features: Tensor, companion: Tensor | None = None) -> Tensor:
        """The second half of `embed`: features of the two trunks `[N, 256, h, w]` to unit vectors.

        The companion's cells may have another size: its features are interpolated.
        """
        parts = []
        if self.settings.embedding != "head":
            parts.append(F.normalize(features, dim=1))
        if self.settings.embedding != "layer3":
            parts.append(F.normalize(self.head(features), dim=1))
        own = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) * 0.5**0.5
        if companion is None:
            return own
        ratio = cells_of(self.companion)[0] / self.stride
        if ratio != 1:  # larger cells may reach beyond the image: what lies there is cut off again
            size = [math.ceil(side * ratio) for side in companion.shape[2:]]
            companion = F.interpolate(companion, size, mode="bilinear", align_corners=False)
            companion = companion[..., : own.shape[2], : own.shape[3]]
        share = self.settings.companion_weight / (1 + self.settings.companion_weight)
        other = F.normalize(companion, dim=1).to(own.dtype)
        return torch.cat([own * (1 - share) ** 0.5, other * share**0.5], dim=1)


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

"""Two backbones side by side, their features concatenated: what a split-brain autoencoder leaves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretrain.backbones import ResNet


class Pair(nn.Module):
    """One backbone that sees lightness and one that sees colours (Zhang et al. 2017, arXiv 1611.09842).

    Args:
        arch: of both, see `ResNet`.
        stem_kind: of both.
        share: of the standard number of channels in each; with 0.5 both together have as many as `arch`.

    Attributes:
        light, colour: the two networks, with the inputs "l" and "ab".
        channels: layer name to number of channels of both together.
        strides: layer name to pixels per cell.
    """

    input = "lab"

    def __init__(self, arch: str = "resnet18", stem_kind: Any = "standard", share: float = 0.5) -> None:
        super().__init__()
        self.light = ResNet(arch, input="l", stem_kind=stem_kind, share=share)
        self.colour = ResNet(arch, input="ab", stem_kind=stem_kind, share=share)
        self.arch, self.stem_kind, self.share = arch, stem_kind, share
        self.strides = self.light.strides
        self.channels = {name: 2 * count for name, count in self.light.channels.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """RGB images float `[N, 3, H, W]` in 0..1 to `{layer: float [N, C, h, w]}`, lightness first."""
        light, colour = self.light(images), self.colour(images)
        return {name: torch.cat([light[name], colour[name]], dim=1) for name in self.channels}

    def description(self) -> dict[str, Any]:
        """What a backbone file says of it."""
        return {
            "pair": True,
            "arch": self.arch,
            "stem": self.stem_kind,
            "share": self.share,
            "input": self.input,
            "strides": self.strides,
            "channels": self.channels,
            "mean": [*self.light.mean.flatten().tolist(), *self.colour.mean.flatten().tolist()],
            "std": [*self.light.std.flatten().tolist(), *self.colour.std.flatten().tolist()],
        }

"""A classifier of places: a head that predicts classes for every place of an image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PlaceClassifier(nn.Module):
    """Scores of classes on a grid of places, from the feature maps of several depths.

    The deepest maps know what a thing is, the shallow ones where it ends: each place is described by the maps
    of all depths (hypercolumns: Hariharan et al. 2015, arXiv 1411.5752; for colours: Larsson et al. 2016,
    arXiv 1603.06668). A 1x1 convolution of the enlarged and concatenated maps is the same as the sum of 1x1
    convolutions of each map, enlarged afterwards, which is many times cheaper. Of several maps of one stride
    only the deepest is used: all four layers of a ResNet, the last block of a ViT.

    Args:
        channels, strides: of the feature maps, by name, see `pretrain.backbones`.
        classes: number of classes.
        hidden: channels between the two layers.
    """

    def __init__(
        self, channels: dict[str, int], strides: dict[str, int], classes: int, hidden: int = 128
    ) -> None:
        super().__init__()
        self.names = list({stride: name for name, stride in strides.items()}.values())
        self.sides = nn.ModuleList(nn.Conv2d(channels[name], hidden, 1, bias=False) for name in self.names)
        self.norm = nn.BatchNorm2d(hidden)
        self.out = nn.Conv2d(hidden, classes, 1)

    def forward(self, maps: dict[str, Tensor], grid: tuple[int, int]) -> Tensor:
        """Feature maps `{name: [N, C, h, w]}` to scores `[N, classes, *grid]`."""
        parts = [
            F.interpolate(side(maps[name]), size=grid, mode="bilinear", align_corners=False)
            for name, side in zip(self.names, self.sides, strict=True)
        ]
        return self.out(F.relu(self.norm(sum(parts[1:], parts[0]))))

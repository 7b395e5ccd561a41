"""A tiny backbone, and images that are easy to tell apart: what the tests of contrastive methods share."""

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """Two convolutions, with batch norm if wanted."""

    def __init__(self, norm: bool = False, features: int = 12) -> None:
        super().__init__()
        self.channels, self.strides = {"layer1": features}, {"layer1": 4}
        between = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), between, nn.ReLU(), nn.Conv2d(8, features, 3, 2, 1), nn.ReLU()
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer1": self.net(images - 0.5)}


def patterns(count: int, size: int = 16) -> Tensor:
    """Images that are easy to tell apart: waves of different colour and width."""
    generator = torch.Generator().manual_seed(1)
    line = torch.linspace(0, 6, size)
    waves = torch.rand(count, 3, 1, 1, generator=generator) * 6 * (line[:, None] + 2 * line)
    return 0.5 + 0.5 * torch.sin(waves + 6 * torch.rand(count, 3, 1, 1, generator=generator))

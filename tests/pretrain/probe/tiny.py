"""A backbone of two convolutions, and images whose classes are colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pretrain.images import ImageSet

COLOURS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (190, 190, 60)], np.uint8)


class Tiny(nn.Module):
    """Layers "a" (stride 2, 6 channels) and "b" (stride 4, 8 channels)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 6, 3, 2, padding=1), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, 2, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.5, generator=generator)
        self.channels, self.strides = {"a": 6, "b": 8}, {"a": 2, "b": 4}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        a = torch.relu(self.norm(self.first(images - 0.5)))
        return {"a": a, "b": self.second(a)}


def coloured(count: int, classes: int = 3, side: int = 16, seed: int = 0, noise: int = 60) -> ImageSet:
    """`count` noisy images; the classes take turns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = COLOURS[labels][:, None, None].astype(int) + rng.integers(-noise, noise, (count, side, side, 3))
    return ImageSet(
        images.clip(0, 255).astype(np.uint8),
        labels.astype(np.int64),
        tuple(f"c{number}" for number in range(classes)),
        tuple(f"{number}.png" for number in range(count)),
    )

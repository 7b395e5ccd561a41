"""Pictures of what was learned: contact sheets, nearest neighbours, principal components of feature maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAP = 2  # white pixels between the images of a sheet


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a run's page.

    Attributes:
        title: what it shows, in a few words.
        image: uint8 `[H, W, 3]` RGB.
        caption: how to read it, one sentence.
    """

    title: str
    image: np.ndarray
    caption: str


def sheet(images: Tensor, columns: int) -> np.ndarray:
    """Images `[N, 3, H, W]` in 0..1, row by row with `columns` a row, to one uint8 `[H', W', 3]`."""
    count, _, height, width = images.shape
    rows = math.ceil(count / columns)
    whole = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    pixels = images.detach().float().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for place, image in enumerate(pixels):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        whole[top : top + height, left : left + width] = image
    return whole


@torch.inference_mode()
def neighbours(backbone: nn.Module, images: Tensor, queries: int = 6, count: int = 7) -> Picture:
    """The images whose pooled deepest features are most like those of some queries (cosine)."""
    features = F.normalize(_maps(backbone, images).mean(dim=(2, 3)), dim=1)  # [N, C]
    chosen = torch.linspace(0, len(images) - 1, queries).round().long()
    similar = features[chosen] @ features.T  # [queries, N]
    found = similar.topk(min(count + 1, len(images)), dim=1).indices  # the image itself comes first
    image = sheet(images[found.flatten().to(images.device)], found.shape[1])
    return Picture(
        "Nearest neighbours",
        image,
        f"Each row: an image, then the {found.shape[1] - 1} of {len(images)} with the most similar features.",
    )


@torch.inference_mode()
def components(backbone: nn.Module, images: Tensor) -> Picture:
    """The first three principal components of the deepest feature map, as red, green and blue."""
    maps = _maps(backbone, images)  # [N, C, h, w]
    flat = maps.permute(0, 2, 3, 1).flatten(0, 2)  # [N*h*w, C]
    flat = flat - flat.mean(dim=0)
    _, _, basis = torch.pca_lowrank(flat, q=min(6, *flat.shape), center=False)
    found = flat @ basis[:, :3]  # [N*h*w, 3]
    found = F.pad(found, (0, 3 - found.shape[1]))
    low, high = found.quantile(0.02, dim=0), found.quantile(0.98, dim=0)
    colours = ((found - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    colours = colours.view(len(maps), *maps.shape[2:], 3).permute(0, 3, 1, 2)  # [N, 3, h, w]
    colours = F.interpolate(colours, size=images.shape[2:], mode="nearest")
    pairs = torch.stack([images.float(), colours.to(images.device)], dim=1).flatten(0, 1)
    return Picture(
        "Principal components",
        sheet(pairs, 8),
        "Beside each image the first three principal components of its deepest feature map, as colours.",
    )


def _maps(backbone: nn.Module, images: Tensor) -> Tensor:
    """The deepest feature maps, float `[N, C, h, w]`, in evaluation mode."""
    training = backbone.training
    backbone.eval()
    parts = [list(backbone(part).values())[-1].float() for part in images.split(64)]
    backbone.train(training)
    return torch.cat(parts)

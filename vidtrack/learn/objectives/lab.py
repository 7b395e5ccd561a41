"""Colour reconstruction with a dropped channel of Lab: copy the colour that the network was not shown.

Lai, Lu, Xie 2020, "MAST: A Memory-Augmented Self-Supervised Tracker" (arXiv 2002.07793), and its successors.
One of a and b is taken from all frames of a clip; the last frame's is copied from the other frames through
the pointers and compared with the truth. The channels of Lab hardly depend on each other, so that the missing
one can't be guessed from what is left; and unlike in a gray picture, most of the colour stays visible. The
picture goes back to RGB, so that any backbone can see it.

MAST points by plain dot products, which later code had to divide by the root of the number of channels to
train at all. Unit embeddings with a temperature are the same cure: scores are bounded, whatever the network's
scale. The pointers are limited to a window, as objects move little between the frames of a clip.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from pydantic import Field
from torch import Tensor

from pretrain.colours import join
from pretrain.config import Config
from vidtrack.learn.objectives.base import Embeddings, Objective, Views
from vidtrack.model.colorizer import copy_values

RANGE = 127.0  # a and b are divided by it, as in MAST


class Lab(Config):
    """Settings of `LabReconstruction`.

    Attributes:
        radius: a cell points to cells at most so many columns and rows away.
        temperature: of the pointers' softmax.
        detail: what a cell copies is a patch of `detail` x `detail` colours; 1: its mean colour.
        scale: of the colours (divided by 127) in the Huber loss, which turns from square to linear at 1.
    """

    radius: int = Field(default=6, ge=0)
    temperature: float = Field(default=0.05, gt=0)
    detail: Literal[1, 2, 4, 8] = 2
    scale: float = Field(default=20.0, gt=0)


class LabReconstruction(Objective):
    """The objective as a run uses it; `lab_loss` is its formula."""

    settings: Lab

    def pictures(self, views: Views) -> Tensor:
        return drop_channel(views.frames, self._dropped(views))

    def loss(self, views: Views, embeddings: Embeddings) -> dict[str, Tensor]:
        values = patches(views.frames, self._dropped(views), self.stride, self.settings.detail)
        return lab_loss(embeddings.first, values, self.settings)

    def _dropped(self, views: Views) -> Tensor:
        """Int64 `[B]`: the channel of Lab that each clip lacks, 1 (a) or 2 (b)."""
        return 1 + (views.draw("lab")() < 0.5).long()


def drop_channel(frames: Tensor, dropped: Tensor) -> Tensor:
    """Set one channel of Lab to 0.

    Args:
        frames: RGB `[B, T, 3, H, W]` in 0..1.
        dropped: int64 `[B]`: the channel, 1 (a) or 2 (b).

    Returns:
        RGB `[B, T, 3, H, W]`, clipped to 0..1. It depends on the two other channels alone.
    """
    lab = rgb_to_lab(frames)
    kept = torch.arange(3, device=frames.device) != dropped[:, None]  # [B, 3]
    lab = (lab * kept[:, None, :, None, None]).flatten(0, 1)  # [B*T, 3, H, W]
    return join(lab[:, :1], lab[:, 1:]).view_as(frames)


def patches(frames: Tensor, channel: Tensor, stride: int, detail: int) -> Tensor:
    """Each cell's patch of one channel of Lab, shrunk to `detail` x `detail` by averaging.

    Args:
        frames: RGB `[B, T, 3, H, H]` in 0..1.
        channel: int64 `[B]`: the channel of each clip.
        stride: pixels per cell, a multiple of `detail`.
        detail: places per side of a patch.

    Returns:
        Float `[B, T, detail², n]` in units of Lab; n = (H / stride)² cells.
    """
    lab = rgb_to_lab(frames)
    one = lab[torch.arange(len(lab), device=lab.device), :, channel]  # [B, T, H, H]
    fine = F.avg_pool2d(one.flatten(0, 1)[:, None], stride // detail)  # [B*T, 1, c*detail, c*detail]
    return F.pixel_unshuffle(fine, detail).flatten(2).unflatten(0, one.shape[:2])


def beyond(cells: int, radius: int, device: torch.device) -> Tensor:
    """Which pairs of cells are farther apart than the window: bool `[c², c²]`."""
    line = torch.arange(cells, device=device)
    far = (line[:, None] - line).abs() > radius  # [c, c]
    return (far[:, None, :, None] | far[None, :, None, :]).reshape(cells**2, cells**2)


def lab_loss(embeddings: Tensor, values: Tensor, settings: Lab) -> dict[str, Tensor]:
    """The loss of one batch.

    Args:
        embeddings: unit vectors `[B, T, D, c, c]` of pictures that lack a channel; the last frame is the
            target, the others are its references.
        values: `[B, T, K, n]`: the missing channel of each cell in units of Lab, n = c².
        settings: see `Lab`.

    Returns:
        `loss`; `error`: mean absolute error of the copied colours in units of Lab; `unmoved`: the same error
        when the colours of the last reference stay where they are, which learning should beat.
    """
    batch, frames, depth, cells, _ = embeddings.shape
    query = embeddings[:, -1].flatten(2)  # [B, D, n]
    references = embeddings[:, :-1].transpose(1, 2).reshape(batch, depth, -1)  # [B, D, (T-1)*n]
    known = values[:, :-1].transpose(1, 2).flatten(2)  # [B, K, (T-1)*n]
    hidden = beyond(cells, settings.radius, embeddings.device).repeat(1, frames - 1)  # [n, (T-1)*n]
    copied = copy_values(query, references, known, settings.temperature, hidden)  # [B, K, n]
    truth, scale = values[:, -1], settings.scale / RANGE
    return {
        "loss": F.smooth_l1_loss(scale * copied, scale * truth),
        "error": (copied - truth).abs().mean().detach(),
        "unmoved": (values[:, -2] - truth).abs().mean(),
    }

"""The classic objective: colour a gray frame by pointing into the frames before it.

Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos" (arXiv 1806.09594). The model sees
lightness only; the colours of the last frame of a clip are copied from the others through the pointers and
compared with the truth, as classes of a k-means palette. Differences from the paper, as in all its
successors: no 3-D convolutions after the encoder (so that embeddings of frames can be kept) and unit
embeddings with a temperature.

A backbone with `model.input: rgb` sees gray RGB pictures in training and colours when it tracks: alone, this
objective goes better with `model.input: l`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from pydantic import Field
from torch import Tensor

from pretrain.config import Config
from pretrain.methods.lab import gray
from vidtrack.learn.objectives.base import Embeddings, Objective, Views
from vidtrack.model.colorizer import copy_values


class Quantized(Config):
    """Settings of `QuantizedColors`.

    Attributes:
        colors: of the palette.
        temperature: of the pointers' softmax.
        sampled_pixels: cells of the videos that the palette is fitted to.
    """

    colors: int = Field(default=16, ge=2)
    temperature: float = Field(default=0.05, gt=0)
    sampled_pixels: int = Field(default=50_000, ge=1)


class QuantizedColors(Objective):
    """The objective as a run uses it; `quantized_loss` is its formula.

    Attributes:
        palette: float `[colors, 2]` of (a, b).
    """

    settings: Quantized
    palette: Tensor

    def __init__(self, settings: Quantized, stride: int) -> None:
        super().__init__(settings, stride)
        self.register_buffer("palette", torch.zeros(settings.colors, 2))

    def prepare(self, videos: list[np.ndarray], seed: int) -> None:
        self.palette.copy_(fit_palette(videos, self.settings, seed, self.stride))

    def pictures(self, views: Views) -> Tensor | None:
        return gray(views.frames.flatten(0, 1)).view_as(views.frames)

    def loss(self, views: Views, embeddings: Embeddings) -> dict[str, Tensor]:
        ab = chroma(views.frames.flatten(0, 1), self.stride)
        colors = quantise(ab, self.palette).unflatten(0, views.frames.shape[:2])
        return quantized_loss(embeddings.first, colors, len(self.palette), self.settings)


def chroma(frames: Tensor, stride: int) -> Tensor:
    """Mean a and b of Lab in each cell: `[N, 3, H, W]` in 0..1 to `[N, 2, H/stride, W/stride]`."""
    return F.avg_pool2d(rgb_to_lab(frames)[:, 1:], stride)


def fit_palette(videos: list[np.ndarray], settings: Quantized, seed: int, stride: int) -> Tensor:
    """k-means of the cells' (a, b) over random frames of the videos: float `[colors, 2]`."""
    from sklearn.cluster import KMeans  # slow to import, and only this objective needs it

    rng = np.random.default_rng([seed, 2])
    samples: list[np.ndarray] = []
    total = 0
    while total < settings.sampled_pixels:
        video = videos[int(rng.integers(len(videos)))]
        image = torch.from_numpy(np.array(video[int(rng.integers(len(video)))])).permute(2, 0, 1)[None] / 255
        ab = chroma(image, stride)[0].flatten(1).T.numpy()  # [cells, 2]
        samples.append(ab[rng.permutation(len(ab))[:100]])
        total += len(samples[-1])
    points = np.concatenate(samples)
    distinct = np.unique(points, axis=0)
    if len(distinct) <= settings.colors:  # videos without colours, or drawn with few
        return torch.from_numpy(np.resize(distinct, (settings.colors, 2)).astype(np.float32))
    fitted = KMeans(settings.colors, n_init=3, random_state=seed).fit(points)
    return torch.from_numpy(fitted.cluster_centers_.astype(np.float32))


def quantise(ab: Tensor, palette: Tensor) -> Tensor:
    """Nearest palette colour of each cell: `[N, 2, h, w]` to int64 `[N, h*w]`."""
    cells = ab.flatten(2).transpose(1, 2)  # [N, n, 2]
    return torch.cdist(cells, palette.expand(len(cells), -1, -1)).argmin(dim=-1)


def quantized_loss(embeddings: Tensor, colors: Tensor, count: int, settings: Quantized) -> dict[str, Tensor]:
    """The loss of one batch.

    Args:
        embeddings: unit vectors `[B, T, D, c, c]` of gray frames; the last frame is the target.
        colors: int64 `[B, T, n]` palette indices of the cells, n = c².
        count: number of palette colours.
        settings: see `Quantized`.

    Returns:
        `loss`, and `accuracy`: share of the target's cells whose likeliest copied colour is right.
    """
    depth = embeddings.shape[2]
    query = embeddings[:, -1].flatten(2)  # [B, D, n]
    references = embeddings[:, :-1].transpose(1, 2).reshape(len(embeddings), depth, -1)  # [B, D, (T-1)*n]
    values = F.one_hot(colors[:, :-1].flatten(1), count).float().transpose(1, 2)  # [B, K, (T-1)*n]
    copied = copy_values(query, references, values, settings.temperature)  # [B, K, n]
    target = colors[:, -1]
    loss = F.nll_loss((copied + 1e-6).log(), target)
    accuracy = (copied.argmax(dim=1) == target).float().mean()
    return {"loss": loss, "accuracy": accuracy.detach()}

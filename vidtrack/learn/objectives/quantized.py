"""The classic objective: colour a gray frame by pointing into the frames before it.

Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos" (arXiv 1806.09594). The model sees
lightness only; the colours of the last frame of a clip are copied from the others through the pointers and
compared with the truth, as classes of a k-means palette. Differences from the paper, as in all its
successors: no 3-D convolutions after the encoder (so that embeddings of frames can be kept) and unit
embeddings with a temperature.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from sklearn.cluster import KMeans
from torch import Tensor

from vidtrack.learn.settings import Colorization
from vidtrack.model.colorizer import copy_values


def chroma(frames: Tensor, stride: int) -> Tensor:
    """Mean a and b of Lab in each cell: `[N, 3, H, W]` in 0..1 to `[N, 2, H/stride, W/stride]`."""
    return F.avg_pool2d(rgb_to_lab(frames)[:, 1:], stride)


def fit_palette(videos: list[np.ndarray], settings: Colorization, seed: int, stride: int) -> Tensor:
    """k-means of the cells' (a, b) over random frames of the videos: float `[colors, 2]`."""
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
    fitted = KMeans(settings.colors, n_init=3, random_state=seed).fit(points)
    return torch.from_numpy(fitted.cluster_centers_.astype(np.float32))


def quantise(ab: Tensor, palette: Tensor) -> Tensor:
    """Nearest palette colour of each cell: `[N, 2, h, w]` to int64 `[N, h*w]`."""
    cells = ab.flatten(2).transpose(1, 2)  # [N, n, 2]
    return torch.cdist(cells, palette.expand(len(cells), -1, -1)).argmin(dim=-1)


def colorization_loss(
    embeddings: Tensor, colors: Tensor, count: int, settings: Colorization
) -> dict[str, Tensor]:
    """The loss of one batch.

    Args:
        embeddings: unit vectors `[B, T, D, c, c]` of gray frames; the last frame is the target.
        colors: int64 `[B, T, n]` palette indices of the cells, n = c².
        count: number of palette colours.
        settings: see `Colorization`.

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

"""Colours as classes: the quantised ab plane of Lab (Zhang, Isola, Efros 2016, arXiv 1603.08511).

A grid of bins, 10 apart, covers the colours ab; only bins that some sRGB colour falls into are kept. A colour
becomes a distribution over the bins near it, and a predicted distribution becomes a colour again by its
annealed mean. Images are RGB in 0..1; L is in 0..100, a and b are within -110..110.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import Tensor, nn

GRID = 10.0  # distance of the bins, in units of ab
SIGMA = 5.0  # standard deviation of both Gaussians, in units of ab
NEAREST = 5  # bins that share a colour
TEMPERATURE = 0.38  # of the annealed mean
REACH = 12  # cells of the grid to each side of gray in which a colour's bins are looked up


@lru_cache
def gamut() -> Tensor:
    """The bins that hold a colour of sRGB: float `[261, 2]`, multiples of 10, sorted.

    A colour falls into the bin nearest to it. Every a and b of sRGB is also that of a colour on the surface
    of the RGB cube, so that the surface alone, in steps of 1/255, finds them all: 261. (The paper counts 313
    of its gamut.)
    """
    steps = torch.linspace(0, 1, 256)
    first, second = torch.meshgrid(steps, steps, indexing="ij")
    faces = []
    for channel in range(3):
        for value in (0.0, 1.0):
            planes = [first, second]
            planes.insert(channel, torch.full_like(first, value))
            faces.append(torch.stack(planes))
    ab = rgb_to_lab(torch.stack(faces))[:, 1:]  # [6, 2, 256, 256]
    return (ab.transpose(0, 1).flatten(1).T / GRID).round().unique(dim=0) * GRID


class ColourBins(nn.Module):
    """The bins, and colours to bins and back.

    Attributes:
        centres: float `[Q, 2]`: a and b of each bin, see `gamut`.
    """

    centres: Tensor
    candidates: Tensor

    def __init__(self) -> None:
        super().__init__()
        centres = gamut()
        self.register_buffer("centres", centres.clone(), persistent=False)
        self.register_buffer("candidates", _candidates(centres), persistent=False)

    def __len__(self) -> int:
        return len(self.centres)

    def nearest(self, ab: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """The `count` bins nearest to colours, nearest first, at most `NEAREST`.

        Args:
            ab: float `[..., 2]`; what lies beyond 125 counts as 125.

        Returns:
            int64 `[..., count]`, the bins; float `[..., count]`, their distances squared.
        """
        limit = (REACH + 0.5) * GRID
        flat = ab.reshape(-1, 2).clamp(-limit, limit)
        cell = ((flat / GRID).round().long().clamp(-REACH, REACH) + REACH).T
        bins = self.candidates[cell[0], cell[1]]  # [P, K]
        # A bin that isn't there (-1) is far away.
        known = torch.cat([self.centres, self.centres.new_full((1, 2), 1e6)])
        off = (known[bins] - flat[:, None]).square().sum(dim=2)  # [P, K]
        distance, order = off.topk(count, dim=1, largest=False)
        shape = (*ab.shape[:-1], count)
        return bins.gather(1, order).view(shape), distance.view(shape)

    def encode(self, ab: Tensor) -> tuple[Tensor, Tensor]:
        """Colours to soft classes: the 5 nearest bins, weighted by a Gaussian of their distance.

        Args:
            ab: float `[..., 2]`.

        Returns:
            int64 `[..., 5]`, the bins, nearest first; float `[..., 5]`, their shares, which sum to 1.
        """
        bins, distance = self.nearest(ab, NEAREST)
        return bins, torch.softmax(distance / (-2 * SIGMA**2), dim=-1)

    def decode(self, scores: Tensor, temperature: float = TEMPERATURE) -> Tensor:
        """Scores (logits) `[N, Q, h, w]` to colours `[N, 2, h, w]`, see `annealed_mean`."""
        return annealed_mean(scores, self.centres, temperature)

    def count(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """How often each bin is the nearest one in images `[N, 3, H, W]` seen at size `grid`: `[Q]`."""
        bins, _ = self.nearest(coarse_lab(images, grid)[:, 1:].permute(0, 2, 3, 1))
        return torch.bincount(bins.flatten(), minlength=len(self))

    def weights(self, counts: Tensor, mix: float) -> Tensor:
        """How much each bin weighs in the loss, so that rare colours are learned too: float `[Q]`.

        The counted distribution is smoothed by a Gaussian over the bins and mixed with the uniform one; the
        weights are the inverse of that, scaled so that their mean over the smoothed distribution is 1.

        Args:
            counts: `[Q]`, of the training images.
            mix: the share of the uniform distribution, above 0; with 1 all weights are 1.
        """
        spread = torch.cdist(self.centres, self.centres).square().div(-2 * SIGMA**2).exp()
        spread = spread / spread.sum(dim=0)  # what a bin loses, its neighbours get
        smooth = spread @ (counts / counts.sum())
        weights = 1 / ((1 - mix) * smooth + mix / len(self))
        return weights / (smooth * weights).sum()


def annealed_mean(scores: Tensor, values: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The mean of values under a sharpened distribution: between its mode (0) and its mean (1).

    Args:
        scores: `[N, Q, h, w]`, logits.
        values: float `[Q, C]`, what each class stands for.
        temperature: the scores are divided by it.

    Returns:
        Float `[N, C, h, w]`.
    """
    share = torch.softmax(scores.float() / temperature, dim=1)
    return torch.einsum("nqhw,qc->nchw", share, values)


def soft_cross_entropy(scores: Tensor, classes: Tensor, shares: Tensor) -> Tensor:
    """Cross entropy with targets that are spread over a few classes, of each place: float32 `[..., ]`.

    Args:
        scores: logits float32 `[..., Q]`.
        classes: int64 `[..., k]`.
        shares: float `[..., k]`, which sum to 1; all other classes have none.
    """
    return scores.logsumexp(dim=-1) - (shares * scores.gather(-1, classes)).sum(dim=-1)


def coarse_lab(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lab `[N, 3, h, w]` of images `[N, 3, H, W]`, shrunk to `grid` rows and columns by averaging."""
    lab: Tensor = rgb_to_lab(F.interpolate(images.float(), size=grid, mode="area"))
    return lab


def with_colours(images: Tensor, ab: Tensor) -> Tensor:
    """The lightness of images with other colours.

    Args:
        images: RGB `[N, 3, H, W]` in 0..1; only their lightness is used.
        ab: float `[N, 2, h, w]`, enlarged to the size of the images.

    Returns:
        RGB `[N, 3, H, W]` in 0..1. What sRGB doesn't have at this lightness is clipped to its range, and only
        there the lightness changes.
    """
    light = rgb_to_lab(images.float())[:, :1]
    ab = F.interpolate(ab.float(), size=images.shape[2:], mode="bilinear", align_corners=False)
    return join(light, ab)


def join(light: Tensor, ab: Tensor) -> Tensor:
    """Lightness `[N, 1, H, W]` and colours `[N, 2, H, W]` to RGB, clipped to 0..1."""
    rgb: Tensor = lab_to_rgb(torch.cat([light, ab], dim=1))
    return rgb


def _candidates(centres: Tensor) -> Tensor:
    """For each cell of the grid the bins that can be among the nearest of a colour in it: `[25, 25, K]`.

    Where there are fewer than K, the rest is -1. In each cell, the `NEAREST` bins whose farthest corner is
    closest limit how far a colour's bins can be; all bins with a closer nearest point are candidates.
    """
    cells = torch.arange(-REACH, REACH + 1) * GRID
    away = (torch.cartesian_prod(cells, cells)[:, None] - centres).abs()  # [cells, Q, 2]
    closest = (away - GRID / 2).clamp(min=0).norm(dim=2)
    farthest = (away + GRID / 2).norm(dim=2)
    limit = farthest.topk(NEAREST, dim=1, largest=False).values[:, -1:]
    possible = closest <= limit
    most = int(possible.sum(dim=1).max())
    chosen = possible.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    chosen = chosen.masked_fill(~possible.gather(1, chosen), -1)
    return chosen.view(len(cells), len(cells), most)

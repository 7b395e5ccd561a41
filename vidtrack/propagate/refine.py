"""Snapping up-sampled label maps to the edges of the frame: a guided filter on coarse pixels.

He, Sun, Tang 2010, "Guided Image Filtering" (ECCV), with the frame's colours as guide, in the fast form of
He & Sun 2015 (arXiv 1505.00996): the local linear model "label = a . colour + b" is fitted on a grid four
times coarser than the working size, and applied to every pixel of the original frame. It has no memory and is
never fed back, so it can't drift.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.geometry import to_pixels

COARSE = 4  # working pixels per coarse pixel
WINDOW = 5  # side of the fitting window in coarse pixels: +-8 working pixels, one cell
REACH = 2 * (WINDOW // 2 + 1) * COARSE  # working pixels beyond which a label has no influence
EPSILON = 1e-4  # ridge on the colour covariance, for colours in 0..1


class Guide:
    """One frame's colours, ready to refine any number of label maps.

    Args:
        image: uint8 `[H, W, 3]` RGB, on the device of the label maps.
        size: working size `(height, width)`.
    """

    def __init__(self, image: Tensor, size: tuple[int, int]) -> None:
        self.size = size
        self.original = (image.shape[0], image.shape[1])
        self.coarse = (max(1, round(size[0] / COARSE)), max(1, round(size[1] / COARSE)))
        self.image = image.permute(2, 0, 1)  # [3, H, W]
        colours = self.image[None].float() / 255
        if colours.shape[-2:] != self.coarse:
            colours = F.interpolate(colours, self.coarse, mode="bilinear", antialias=True)
        self.colours = colours[0]  # [3, h, w]
        self.mean = box(self.colours)
        second = box((self.colours[:, None] * self.colours[None]).flatten(0, 1)).unflatten(0, (3, 3))
        covariance = (second - self.mean[:, None] * self.mean[None]).permute(2, 3, 0, 1)  # [h, w, 3, 3]
        ridge = EPSILON * torch.eye(3, dtype=covariance.dtype, device=covariance.device)
        self.inverse = torch.linalg.inv(covariance + ridge)

    def refine(self, map_: Tensor, stride: int, rows: slice, columns: slice) -> Tensor:
        """Up-sample one channel of a label map along the frame's edges.

        Args:
            map_: float `[h, w]` at the cells.
            stride: pixels per cell.
            rows, columns: the part of the original pixels that is wanted.

        Returns:
            float `[rows, columns]`, nearly in 0..1; it is linear in `map_`, and a map of ones gives ones.
        """
        label = to_pixels(map_[None], self.size, stride, self.coarse)[0]  # [h, w] coarse
        mean = box(label[None])
        covariance = box(self.colours * label) - self.mean * mean  # [3, h, w]
        slope = torch.einsum("hwij,jhw->ihw", self.inverse, covariance)
        offset = mean - (slope * self.mean).sum(dim=0, keepdim=True)
        model = box(torch.cat([slope, offset]))  # [4, h, w]
        model = to_pixels(model, self.coarse, 1, self.original, rows, columns)  # [4, rows, columns]
        colours = self.image[:, rows, columns].float() / 255
        return (model[:3] * colours).sum(dim=0) + model[3]


def box(maps: Tensor) -> Tensor:
    """Mean over the window around each pixel, `[C, h, w]`; at the border over the part that is inside."""
    pad = WINDOW // 2
    return F.avg_pool2d(maps[None], WINDOW, stride=1, padding=pad, count_include_pad=False)[0]

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
        rows, columns: the part of the original pixels that will be asked for; the rest costs nothing.
    """

    def __init__(
        self,
        image: Tensor,
        size: tuple[int, int],
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> None:
        self.size = size
        self.original = (image.shape[0], image.shape[1])
        self.coarse = (max(1, round(size[0] / COARSE)), max(1, round(size[1] / COARSE)))
        self.part = (
            _coarse_part(rows, self.original[0], self.coarse[0]),
            _coarse_part(columns, self.original[1], self.coarse[1]),
        )
        self.image = image.permute(2, 0, 1)  # [3, H, W]
        colours = self.image[None].float() / 255
        if colours.shape[-2:] != self.coarse:
            colours = F.interpolate(colours, self.coarse, mode="bilinear", antialias=True)
        self.colours = colours[0][:, self.part[0], self.part[1]]  # [3, h, w]
        self.mean = box(self.colours)
        pairs = torch.stack([self.colours[i] * self.colours[j] for i, j in _PAIRS])
        means = torch.stack([self.mean[i] * self.mean[j] for i, j in _PAIRS])
        self.inverse = _inverse(box(pairs) - means)  # [6, h, w]

    def refine(self, map_: Tensor, stride: int, rows: slice, columns: slice) -> Tensor:
        """Up-sample one channel of a label map along the frame's edges.

        Args:
            map_: float `[h, w]` at the cells.
            stride: pixels per cell.
            rows, columns: the part of the original pixels that is wanted, within that of the guide.

        Returns:
            float `[rows, columns]`, nearly in 0..1; it is linear in `map_`, and a map of ones gives ones.
        """
        label = to_pixels(map_[None], self.size, stride, self.coarse, *self.part)[0]  # [h, w] coarse
        mean = box(label[None])
        covariance = box(self.colours * label) - self.mean * mean  # [3, h, w]
        inverse = self.inverse
        slope = torch.stack(
            [sum(inverse[_PLACE[i][j]] * covariance[j] for j in range(3)) for i in range(3)]  # type: ignore[misc]
        )
        offset = mean - (slope * self.mean).sum(dim=0, keepdim=True)
        model = box(torch.cat([slope, offset]))  # [4, h, w]
        model = to_pixels(
            model, self.coarse, 1, self.original, rows, columns, self.part
        )  # [4, rows, columns]
        result = model[3]
        for channel, colour in zip(model[:3], self.image[:, rows, columns], strict=True):
            result = torch.addcmul(result, channel, colour.float(), value=1 / 255)
        return result


_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # the upper half of a symmetric 3x3 matrix
_PLACE = ((0, 1, 2), (1, 3, 4), (2, 4, 5))  # where entry (i, j) stands in it


def _inverse(covariance: Tensor) -> Tensor:
    """Inverse of symmetric 3x3 matrices plus the ridge, both as `[6, h, w]` in the order of `_PAIRS`."""
    xx, xy, xz, yy, yz, zz = covariance
    xx, yy, zz = xx + EPSILON, yy + EPSILON, zz + EPSILON
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * a + xy * b + xz * c
    rest = (xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy)
    return torch.stack([a, b, c, *rest]) / determinant


def _coarse_part(pixels: slice, length: int, coarse: int) -> slice:
    """The coarse pixels that the result at some original pixels depends on."""
    begin, end, _ = pixels.indices(length)
    margin = 2 * (WINDOW // 2) + 2
    scale = coarse / length
    return slice(max(0, int(begin * scale) - margin), min(coarse, int(end * scale) + margin + 1))


def box(maps: Tensor) -> Tensor:
    """Mean over the window around each pixel, `[C, h, w]`; at the border over the part that is inside."""
    pad = WINDOW // 2
    return F.avg_pool2d(maps[None], WINDOW, stride=1, padding=pad, count_include_pad=False)[0]

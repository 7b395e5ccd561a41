"""Every conversion between pixels, resized pixels and cells; no other module adds half a pixel.

Points are `(x, y)` with pixel centres at integers (OpenCV). Cell `i` of stride `s` covers the pixels
`s*i .. s*i + s-1`, so its centre lies at pixel `s*i + (s-1)/2`. Resizing is `align_corners=False`: the
borders of the two images coincide, not their corner pixels' centres.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Cells of 8 pixels are coarse for small frames: enlarging them tracks better, up to a point.
ENLARGED = 2


def working_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Size `(height, width)` at which embeddings are computed.

    The frame's short side becomes `short_side`, keeping the aspect ratio; a small frame is enlarged by
    `ENLARGED` at most. `None` (native) keeps every size.
    """
    if short_side is None:
        return height, width
    scale = min(short_side / min(height, width), ENLARGED)
    return max(1, round(height * scale)), max(1, round(width * scale))


def cells(length: int, stride: int) -> int:
    """Number of cells that cover `length` pixels: the pixels are padded up to a multiple of the stride."""
    return -(-length // stride)


def pixel_to_cell(xy: Tensor, stride: int) -> Tensor:
    """Pixel coordinates (any shape) to continuous cell coordinates: the centre of cell i is at i."""
    return (xy - (stride - 1) / 2) / stride


def cell_to_pixel(xy: Tensor, stride: int) -> Tensor:
    """Continuous cell coordinates (any shape) to pixel coordinates; inverse of `pixel_to_cell`."""
    return xy * stride + (stride - 1) / 2


def rescale_points(xy: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Points `(x, y)` `[..., 2]` of an image of size `source` (height, width) in one resized to `target`."""
    factor = torch.tensor([target[1] / source[1], target[0] / source[0]], dtype=xy.dtype, device=xy.device)
    return (xy + 0.5) * factor - 0.5


def pad_to_stride(images: Tensor, stride: int) -> Tensor:
    """Pad `[N, C, H, W]` on the right and bottom, repeating the border, to multiples of the stride."""
    height, width = images.shape[-2:]
    pad = (0, cells(width, stride) * stride - width, 0, cells(height, stride) * stride - height)
    return F.pad(images, pad, mode="replicate") if any(pad) else images


def pad_image(image: np.ndarray, stride: int) -> np.ndarray:
    """As `pad_to_stride`, for one uint8 `[H, W, 3]` in numpy."""
    height, width = image.shape[:2]
    down, right = cells(height, stride) * stride - height, cells(width, stride) * stride - width
    if not (down or right):
        return image
    return cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)


def to_cells(label_map: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Shrink a label map of the original pixels to cells.

    Args:
        label_map: float `[K, H, W]` at the original size.
        size: working size `(height, width)` of the embedding.
        stride: pixels per cell.

    Returns:
        float `[K, h, w]`: each cell is the mean of its pixels at the working size.
    """
    resized = label_map[None]  # [1, K, H, W]
    if tuple(label_map.shape[-2:]) != tuple(size):
        resized = F.interpolate(resized, size=size, mode="bilinear", align_corners=False, antialias=True)
    return F.avg_pool2d(pad_to_stride(resized, stride), stride)[0]  # [K, h, w]


def to_pixels(
    label_map: Tensor,
    size: tuple[int, int],
    stride: int,
    original: tuple[int, int],
    rows: slice = slice(None),
    columns: slice = slice(None),
    part: tuple[slice, slice] | None = None,
) -> Tensor:
    """Up-sample a label map of cells to the original pixels in one bilinear step, padding removed.

    Args:
        label_map: float `[K, h, w]` at cells.
        size: working size `(height, width)` of the embedding, of which the cells are the padded grid.
        stride: pixels per cell.
        original: `(height, width)` of the whole result.
        rows, columns: the part of the result that is wanted.
        part: rows and columns of the cells that `label_map` holds, if not all; the others count as 0.

    Returns:
        float `[K, H, W]`, or the wanted part of it.
    """
    like = (str(label_map.dtype).removeprefix("torch."), str(label_map.device))
    down, across = part or (slice(None), slice(None))
    height, width = cells(size[0], stride), cells(size[1], stride)
    vertical = _interpolation(original[0], size[0], stride, height, *like)[rows, down]  # [H, h]
    horizontal = _interpolation(original[1], size[1], stride, width, *like)[columns, across]  # [W, w]
    return vertical @ (label_map @ horizontal.T)  # [K, h, w] -> [K, h, W] -> [K, H, W]


@lru_cache(maxsize=8)
def _interpolation(length: int, working: int, stride: int, count: int, dtype: str, device: str) -> Tensor:
    """Matrix `[length, count]` of the linear interpolation from cells to pixels along one axis."""
    pixel = torch.arange(length, dtype=torch.float64)
    position = pixel_to_cell((pixel + 0.5) * (working / length) - 0.5, stride).clamp(0, count - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=count - 1)
    share = position - low
    matrix = torch.zeros(length, count, dtype=torch.float64)
    matrix.scatter_add_(1, low[:, None], (1 - share)[:, None])
    matrix.scatter_add_(1, high[:, None], share[:, None])
    return matrix.to(device, getattr(torch, dtype))

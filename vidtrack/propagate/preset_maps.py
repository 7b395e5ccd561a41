"""Label maps of the presets: masks to cells and back as each paper's code does it, and CRW's keypoints.

Read in the same repositories as `vidtrack.propagate.presets`:

- "crw": `code/data/vos.py:VOSDataset.__getitem__` (`cv2.resize` of the one-hot mask, bilinear, half-pixel
  centres), `code/utils/test_utils.py:dump_predictions` (`cv2.resize`, argmax; `--norm_mask` is off). Dense
  unsupervised learning (Araslanov et al. 2021, `labelprop/crw.py`), which builds on it, uses
  `align_corners=True` for both.
- "dino": `eval_video_segmentation.py:read_seg` (PIL nearest), `norm_mask`, `eval_video_tracking_davis`.
- "vfs": `mmaction/datasets/pipelines/augmentations.py:Resize` and `mmaction/models/common/utils.py:
  pil_nearest_interpolate` (PIL nearest to the working size, then to the cells; its bilinear branch is for
  heat maps alone), `vanilla_tracker.py:VanillaTracker.forward_test`.

All of them stretch the grid of cells over the whole frame, and so do these functions: where the working size
is no multiple of the stride, a cell counts as slightly smaller than `stride` pixels in both directions.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vidtrack.geometry import cell_to_pixel, cells, pixel_to_cell
from vidtrack.propagate.presets import variant

SIGMA = 0.5  # of a keypoint's Gaussian, in cells


def to_label_map(
    preset: str, ids: np.ndarray, objects: list[int], size: tuple[int, int], stride: int
) -> Tensor:
    """Label map of an annotated frame.

    Args:
        preset: "crw", "dino" or "vfs".
        ids: uint8 `[H, W]` at the original size, 0 background.
        objects: the ids of channels 1.., in this order; other ids count as background.
        size: working size `(height, width)` of the embedding.
        stride: pixels per cell.

    Returns:
        float32 `[h, w, 1 + len(objects)]`, channel 0 background, sum 1 in each cell. An object that is
        smaller than a cell can be absent, as in the papers' code.

    Raises:
        InputError: unknown preset.
        ValueError: ids are not uint8 `[H, W]`.
    """
    shrink = variant(preset).shrink
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise ValueError(f"ids must be uint8 [H, W], not {ids.dtype} {list(ids.shape)}")
    grid = cells(size[0], stride), cells(size[1], stride)
    if shrink == "nearest in two steps":
        ids = _nearest(ids, size)
    if shrink != "bilinear":
        ids = _nearest(ids, grid)
    masks = [~np.isin(ids, objects), *(ids == number for number in objects)]
    channels = [mask.astype(np.float32) for mask in masks]
    if shrink == "bilinear":
        channels = [cv2.resize(c, grid[::-1], interpolation=cv2.INTER_LINEAR) for c in channels]
    return torch.from_numpy(np.stack(channels, axis=-1))


def read_out(
    preset: str, labels: Tensor, size: tuple[int, int], stride: int, original: tuple[int, int]
) -> tuple[Tensor, dict[int, float]]:
    """Up-sample soft labels to pixels and take the largest channel of each.

    "dino" and "vfs" stretch each channel to 0..1 first, so that the smallest object counts as much as the
    background. The channels are treated one after the other: memory does not grow with their number.

    Args:
        preset: "crw", "dino" or "vfs".
        labels: float `[h, w, K]`, channel 0 background.
        size: working size `(height, width)` of the embedding.
        stride: pixels per cell.
        original: `(height, width)` of the result.

    Returns:
        Channel numbers uint8 `[H, W]` on the CPU, and per visible channel k >= 1 the mean of its soft label
        (before stretching) inside its pixels, 0..1.

    Raises:
        InputError: unknown preset.
        ValueError: the labels don't have the cells of `size`.
    """
    stretch = variant(preset).stretch
    grid = cells(size[0], stride), cells(size[1], stride)
    if labels.ndim != 3 or tuple(labels.shape[:2]) != grid:
        raise ValueError(f"labels {tuple(labels.shape)} don't fit {grid[0]} x {grid[1]} cells")
    at_cells = stretch == "min-max at cells"
    target = (grid[0] * stride, grid[1] * stride) if at_cells else original
    ids = torch.zeros(target, dtype=torch.uint8)
    best = torch.full(target, -torch.inf)
    probability = torch.zeros(target)
    for channel, map_ in enumerate(labels.detach().cpu().float().unbind(dim=-1)):
        raised = _upsample(map_, target, opencv=stretch == "none")
        score = raised if stretch == "none" else _min_max(raised, epsilon=0.0 if at_cells else 1e-12)
        wins = score > best  # equal: the first channel, as argmax
        ids[wins] = channel
        best[wins], probability[wins] = score[wins], raised[wins]
    if at_cells:
        ids = torch.from_numpy(_nearest(ids.numpy(), original))
        probability = torch.from_numpy(_nearest(probability.numpy(), original))
    area = torch.bincount(ids.flatten().int(), minlength=labels.shape[-1])
    mass = torch.bincount(ids.flatten().int(), probability.flatten(), minlength=labels.shape[-1])
    visible = (k for k in range(1, labels.shape[-1]) if area[k] > 0)
    return ids, {k: min(1.0, float(mass[k] / area[k])) for k in visible}


def heat_maps(keypoints: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Label map of keypoints: a Gaussian of half a cell per keypoint, and a background channel.

    After `code/data/jhmdb.py:draw_labelmap_np` of ajabri/videowalk, which rounds a keypoint to a cell and
    takes cell i's centre for pixel `stride * i`. Here the Gaussian sits at the exact place, and cells have
    their centres where `vidtrack.geometry` says.

    Args:
        keypoints: `(x, y)` `[n, 2]` in pixels of the working size; nan or outside of the frame: no keypoint.
        size: working size `(height, width)` of the embedding.
        stride: pixels per cell.

    Returns:
        float32 `[h, w, n + 1]`: channel 0 is 1 where all others are 0; channel j + 1 is keypoint j, cut off
        at 3 sigma, and all zero if there is none.
    """
    keypoints = keypoints.float()
    limit = keypoints.new_tensor([size[1] - 0.5, size[0] - 0.5])
    inside = ((keypoints >= -0.5) & (keypoints <= limit)).all(dim=1)  # nan is never inside
    place = pixel_to_cell(keypoints, stride)
    y = torch.arange(cells(size[0], stride), device=keypoints.device)[:, None, None] - place[:, 1]
    x = torch.arange(cells(size[1], stride), device=keypoints.device)[None, :, None] - place[:, 0]
    near = (y.abs() <= 3 * SIGMA) & (x.abs() <= 3 * SIGMA) & inside  # [h, w, n]
    maps = torch.exp(-(y**2 + x**2) / (2 * SIGMA**2)).where(near, 0.0)
    background = (maps.sum(dim=-1, keepdim=True) == 0).float()
    return torch.cat([background, maps], dim=-1)


def peaks(labels: Tensor, stride: int, topk: int = 3) -> Tensor:
    """Where the keypoints of propagated heat maps are: the score-weighted mean of the best cells.

    After `code/utils/test_utils.py:process_pose` of ajabri/videowalk, with the cells' true centres: CRW's
    cell index times `stride` lies half a cell to the upper left of them.

    Args:
        labels: float `[h, w, n + 1]`, see `heat_maps`.
        stride: pixels per cell.
        topk: number of cells.

    Returns:
        `(x, y)` float32 `[n, 2]` in pixels of the working size; nan where a keypoint's map sums to 0.
    """
    width = labels.shape[1]
    maps = labels[..., 1:].float().flatten(0, 1)  # [h * w, n]
    score, cell = maps.topk(min(topk, len(maps)), dim=0)
    weight = score / score.sum(dim=0)  # a lost keypoint's are 0 / 0 = nan
    place = torch.stack([cell % width, cell // width], dim=-1)  # [topk, n, 2]
    mean = (place * weight[..., None]).sum(dim=0)
    return cell_to_pixel(mean, stride)


def _nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(values).resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(resized)  # a copy: PIL's own memory is read-only


def _upsample(map_: Tensor, size: tuple[int, int], opencv: bool) -> Tensor:
    if opencv:
        resized = cv2.resize(map_.contiguous().numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(resized)
    return F.interpolate(map_[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def _min_max(map_: Tensor, epsilon: float) -> Tensor:
    """A map with its values stretched to 0..1; all zero stays so.

    A map that is the same everywhere, and not 0, is a matter of `epsilon`: VFS adds it to the divisor and
    gets 0; DINO divides 0 by 0, and its argmax takes nan for larger than everything.
    """
    low, high = map_.aminmax()
    if high <= 0:
        return map_
    return ((map_ - low) / (high - low + epsilon)).nan_to_num(nan=torch.inf)

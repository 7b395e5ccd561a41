"""Anchor assignment with a warped second view: the objective that needs by far the least compute.

Araslanov, Schaub-Meyer, Roth 2021, "Dense Unsupervised Learning for Video Segmentation"
(arXiv 2111.06265): cells of a clip's other frames are assigned to anchors sampled from one frame, and the
assignment must agree between two views that differ by a known flip and zoom. Without the warp the
network would learn positions instead of content.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.losses import info_nce
from vidtrack.learn.clips import nearest_cells
from vidtrack.learn.settings import Anchors


def grid_cells(cells: int, grid: int, offsets: Tensor) -> Tensor:
    """Indices int64 `[B, grid²]` of a regular grid of cells, shifted by `offsets` `[B, 2]` in 0..1.

    The grid's spacing is `cells / grid`; the offset moves it by up to one spacing.
    """
    spacing = cells / grid
    line = torch.arange(grid, device=offsets.device) * spacing  # [grid]
    rows = (line + offsets[:, :1] * spacing).floor().long().clamp(max=cells - 1)  # [B, grid]
    columns = (line + offsets[:, 1:] * spacing).floor().long().clamp(max=cells - 1)
    return (rows[:, :, None] * cells + columns[:, None, :]).flatten(1)


def anchor_loss(
    first: Tensor, second: Tensor, second_graded: Tensor, windows: Tensor, offsets: Tensor, settings: Anchors
) -> dict[str, Tensor]:
    """The loss of one batch.

    Args:
        first: unit embeddings `[B, T, D, c, c]` of the first view, with gradient.
        second: unit embeddings `[B, T-1, D, c, c]` of frames 1.. of the second view, without gradient.
        second_graded: `[B, D, c, c]` of frame 0 of the second view, with gradient.
        windows: `[B, 4]`, see `warp_grid`.
        offsets: `[B, 2]` in 0..1: where each clip's grid of anchors lies.
        settings: see `Anchors`.

    Returns:
        `loss`, and its parts `assignment` and `cross_view`; `agreement`: share of the cells whose own
        strongest anchor in the first view is the one that the second view says.
    """
    batch, frames, depth, cells, _ = first.shape
    flat = first.flatten(3)  # [B, T, D, n]
    warp = nearest_cells(windows, cells)  # [B, n]: cell of the second view -> cell of the first

    anchors = grid_cells(cells, settings.grid, offsets)  # [B, a]
    z = flat[:, 0].gather(2, anchors[:, None].expand(-1, depth, -1)).transpose(1, 2)  # [B, a, D]
    count = z.shape[1]
    other = second.flatten(3)  # [B, T-1, D, n]
    with torch.no_grad():
        own = torch.einsum("bad,btdn->btan", z, other)  # only the own clip's anchors
        target = (
            own.argmax(dim=2) + torch.arange(batch, device=z.device)[:, None, None] * count
        )  # [B, T-1, n]
    index = warp[:, None, None].expand(-1, frames - 1, depth, -1)
    warped = flat[:, 1:].gather(3, index)  # [B, T-1, D, n]: first view, seen in the second's places
    rows = warped.transpose(2, 3).reshape(-1, depth)  # [B*(T-1)*n, D]
    # All clips' anchors compete; the embeddings are unit vectors. logits: [B*(T-1)*n, B*a]
    assignment, logits = info_nce(rows, z.flatten(0, 1), target.flatten(), "dot", settings.temperature)
    with torch.no_grad():
        agreement = (logits.argmax(dim=1) == target.flatten()).float().mean()

    places = grid_cells(cells, settings.cross_grid, offsets)  # [B, g] in the second view
    key = second_graded.flatten(2).gather(2, places[:, None].expand(-1, depth, -1))  # [B, D, g]
    there = warp.gather(1, places)  # [B, g] in the first view
    query = flat[:, 0].gather(2, there[:, None].expand(-1, depth, -1))
    query, key = (x.transpose(1, 2).flatten(0, 1) for x in (query, key))  # [B*g, D]
    cross_view, _ = info_nce(
        query, key, torch.arange(len(query), device=query.device), "dot", settings.temperature
    )
    return {
        "loss": assignment + settings.cross_view * cross_view,
        "assignment": assignment.detach(),
        "cross_view": cross_view.detach(),
        "agreement": agreement,
    }

"""Anchor assignment with a warped second view: the objective that needs by far the least compute.

Araslanov, Schaub-Meyer, Roth 2021, "Dense Unsupervised Learning for Video Segmentation"
(arXiv 2111.06265): cells of a clip's other frames are assigned to anchors sampled from one frame, and the
assignment must agree between two views that differ by a known flip and zoom. Without the warp the
network would learn positions instead of content.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor

from pretrain.config import Config
from pretrain.distributed import gather, rank
from pretrain.losses import info_nce
from vidtrack.learn.clips import nearest_cells
from vidtrack.learn.objectives.base import Embeddings, Objective, Views


class Anchors(Config):
    """Settings of `AnchorAssignment`.

    Attributes:
        grid: anchors per side of a clip's frame.
        temperature: of the softmax over anchors.
        cross_view: weight of the term that tells a cell from others by its second view.
        cross_grid: cells per side that this term looks at.
    """

    grid: int = Field(default=6, ge=1)
    temperature: float = Field(default=0.05, gt=0)
    cross_view: float = Field(default=0.1, ge=0)
    cross_grid: int = Field(default=4, ge=1)


class AnchorAssignment(Objective):
    """The objective as a run uses it; `anchor_loss` is its formula."""

    settings: Anchors

    def second_frames(self, frames: int) -> Iterable[int]:
        return (0,)

    def target_frames(self, frames: int) -> Iterable[int]:
        return range(1, frames)

    def loss(self, views: Views, embeddings: Embeddings) -> dict[str, Tensor]:
        count = views.frames.shape[1]
        return anchor_loss(
            embeddings.first,
            torch.stack([embeddings.targets[t] for t in range(1, count)], dim=1),
            embeddings.second[0],
            views.windows,
            views.draw("anchors")(2),
            self.settings,
        )


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
    """The loss of one batch. The anchors of all processes compete.

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
    positive = target.flatten() + rank() * batch * count
    assignment, logits = info_nce(rows, gather(z.flatten(0, 1)), positive, "dot", settings.temperature)
    with torch.no_grad():
        agreement = (logits.argmax(dim=1) == positive).float().mean()

    places = grid_cells(cells, settings.cross_grid, offsets)  # [B, g] in the second view
    key = second_graded.flatten(2).gather(2, places[:, None].expand(-1, depth, -1))  # [B, D, g]
    there = warp.gather(1, places)  # [B, g] in the first view
    query = flat[:, 0].gather(2, there[:, None].expand(-1, depth, -1))
    query, key = (x.transpose(1, 2).flatten(0, 1) for x in (query, key))  # [B*g, D]
    positive = torch.arange(len(query), device=query.device) + rank() * len(query)
    cross_view, _ = info_nce(query, gather(key), positive, "dot", settings.temperature)
    return {
        "loss": assignment + settings.cross_view * cross_view,
        "assignment": assignment.detach(),
        "cross_view": cross_view.detach(),
        "agreement": agreement,
    }

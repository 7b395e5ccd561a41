"""Cycles in time: walk along a clip and back, and end where the walk began.

Jabri, Owens, Efros 2020, "Space-Time Correspondence as a Contrastive Random Walk" (arXiv 2006.14613). Here
the nodes are the cells of whole feature maps, which cost far less than the paper's 49 patches of each frame.
But there the plain walk collapses: a network with padding can tell where a cell lies, and to stay in place is
a perfect cycle without a look at the picture. So the walk begins in the second view, whose zoom and mirror
are known, and returns through the first view:

    f'0 -> f'1 -> ... -> f'(k-1) -> fk -> f(k-1) -> ... -> f0        (f' the second view)

It must end in the cell of the first view that holds its start. The zoom and the mirror have moved nearly all
cells: who goes by the place arrives at the wrong one, only what a cell shows leads across. Walks of all
lengths k count alike. A clip's frames need no order: neighbours in a permuted clip are only farther apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor

from pretrain.config import Config
from vidtrack.learn.clips import nearest_cells
from vidtrack.learn.objectives.base import Draw, Embeddings, Objective, Views

DROPPED = -1e10  # score of a dropped edge: unlike -inf it leaves a row a distribution if all are dropped
LEAST = 1e-20  # probabilities below count as this one


class Cycle(Config):
    """Settings of `CycleWalk`.

    Attributes:
        temperature: of the softmax of each step of the walk.
        dropout: share of the edges that a walk can't take, so that it learns several ways.
    """

    temperature: float = Field(default=0.05, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class CycleWalk(Objective):
    """The objective as a run uses it; `cycle_loss` is its formula."""

    settings: Cycle

    def second_frames(self, frames: int) -> Iterable[int]:
        return range(frames - 1)

    def loss(self, views: Views, embeddings: Embeddings) -> dict[str, Tensor]:
        frames = views.frames.shape[1]
        second = torch.stack([embeddings.second[t] for t in range(frames - 1)], dim=1)
        return cycle_loss(embeddings.first, second, views.windows, self.settings, views.draw("cycle"))


def cycle_loss(
    first: Tensor, second: Tensor, windows: Tensor, settings: Cycle, draw: Draw
) -> dict[str, Tensor]:
    """The loss of one batch.

    Args:
        first: unit embeddings `[B, T, D, c, c]` of the first view.
        second: unit embeddings `[B, T-1, D, c, c]` of frames 0.. of the second view.
        windows: `[B, 4]`, see `warp_grid`.
        settings: see `Cycle`.
        draw: of the dropped edges, see `Views.draw`.

    Returns:
        `loss`: mean over the lengths k and the start cells of -log of the probability to end at the right
        cell; `accuracy`: share of the start cells whose most probable end is within a cell of it.
    """
    frames, cells = first.shape[1], first.shape[-1]
    first, second = first.flatten(3), second.flatten(3)  # [B, T, D, n], [B, T-1, D, n]
    truth = nearest_cells(windows, cells)  # [B, n]

    def step(here: Tensor, there: Tensor) -> Tensor:
        return transition(here, there, settings, draw)

    there: Tensor | None = None  # [B, n, n]: f'0 -> f'(k-1); none for k = 1
    back: Tensor | None = None  # [B, n, n]: fk -> f0
    losses, accuracies = [], []
    for k in range(1, frames):
        if k > 1:
            edge = step(second[:, k - 2], second[:, k - 1])
            there = edge if there is None else there @ edge
        edge = step(first[:, k], first[:, k - 1])
        back = edge if back is None else edge @ back
        ends = step(second[:, k - 1], first[:, k]) @ back
        ends = ends if there is None else there @ ends  # [B, n, n]: start, end
        chance = ends.gather(2, truth[:, :, None])[:, :, 0]  # [B, n]
        losses.append(-chance.clamp(min=LEAST).log().mean())
        accuracies.append(near(ends.argmax(dim=2), truth, cells).float().mean())
    return {"loss": torch.stack(losses).mean(), "accuracy": torch.stack(accuracies).mean()}


def transition(here: Tensor, there: Tensor, settings: Cycle, draw: Draw) -> Tensor:
    """One step of the walk.

    Args:
        here, there: unit embeddings `[B, D, n]`, `[B, D, m]`.
        settings: see `Cycle`.
        draw: of the dropped edges, see `Views.draw`.

    Returns:
        `[B, n, m]`: the probability to go from each cell to each.
    """
    scores = here.transpose(1, 2) @ there / settings.temperature
    if settings.dropout:
        scores = scores.masked_fill(draw(*scores.shape[1:]) < settings.dropout, DROPPED)
    return scores.softmax(dim=2)


def near(found: Tensor, truth: Tensor, cells: int) -> Tensor:
    """Whether cells are at most one row and one column apart: int64 indices of the same shape to bool."""
    rows = found // cells - truth // cells
    columns = found % cells - truth % cells
    return (rows.abs() <= 1) & (columns.abs() <= 1)

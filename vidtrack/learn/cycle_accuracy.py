"""How well a model follows content through time, measured without labels.

After the evaluation of walks in Jabri, Owens, Efros 2020, "Space-Time Correspondence as a Contrastive Random
Walk" (arXiv 2006.14613), whose loss this is nearly. A clip is seen twice: as it is, and through a known zoom
and mirror. From each cell of frame 0 of the second view a walk goes forward in time to frame k of that view,
crosses to frame k of the first view, and returns to frame 0. It is right if it most probably ends where the
content of its start lies in the first view. Nobody needs to know what moved where: only the zoom.

Positions are of no help, which they would be without the second view: content that is at one place there is
at another one here, and cells of which that isn't true are not counted. An embedding of nothing but the
position scores 0, one that is the same everywhere about `chance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidtrack.learn.clips import nearest_cells, second_view, to_float

Embed = Callable[[Tensor], Tensor]
BATCH = 8  # clips at a time


@dataclass(frozen=True)
class CycleAccuracy:
    """The score of a model.

    Attributes:
        mean: over `steps`.
        steps: share 0..1 of the counted cells whose walk over k = 1, 2... frames and back is right.
        chance: what a walk to a random cell gets.
    """

    mean: float
    steps: tuple[float, ...]
    chance: float


@dataclass(frozen=True, eq=False)
class Walks:
    """Every walk of a few clips.

    Attributes:
        ends: int64 `[T-1, B, n]`: the cell of frame 0 of the first view where the walk over k = 1 .. T-1
            frames most probably ends, for each cell of frame 0 of the second.
        truth: int64 `[B, n]`: where it should.
        counts: bool `[B, n]`: cells that are at another place in the first view.
        right: bool `[T-1, B, n]`: counted, and within the tolerance.
    """

    ends: Tensor
    truth: Tensor
    counts: Tensor
    right: Tensor


def cycle_accuracy(
    embed: Embed, frames: Tensor, windows: Tensor, temperature: float, tolerance: int = 1
) -> CycleAccuracy:
    """Score a model on clips.

    Args:
        embed: `[N, 3, H, H]` in 0..1 to unit vectors `[N, D, c, c]`; in evaluation mode.
        frames: uint8 `[N, T, 3, H, H]`, the first view; T at least 2.
        windows: float `[N, 4]`, the second view, see `vidtrack.learn.clips.warp_grid`.
        temperature: of the softmax over all cells of the next frame.
        tolerance: in cells, to each side, within which an end is right.
    """
    right: list[Tensor] = []
    counted = near = 0
    for part, window in zip(frames.split(BATCH), windows.split(BATCH), strict=True):
        found = follow(embed, part, window, temperature, tolerance)
        right.append(found.right.sum(dim=(1, 2)))  # [T-1]
        counted += int(found.counts.sum())
        near += int((neighbours(found.truth, tolerance) * found.counts).sum())
        places = found.truth.shape[1]
    steps = tuple((torch.stack(right).sum(dim=0) / max(1, counted)).tolist())
    return CycleAccuracy(sum(steps) / len(steps), steps, near / max(1, counted) / places)


@torch.no_grad()
def follow(embed: Embed, frames: Tensor, windows: Tensor, temperature: float, tolerance: int = 1) -> Walks:
    """The walks of a few clips at once; the arguments are those of `cycle_accuracy`."""
    first = to_float(frames)
    both = torch.cat([first, second_view(first, windows)])  # [2B, T, 3, H, H]
    embedded = embed(both.flatten(0, 1)).float().unflatten(0, both.shape[:2])  # [2B, T, D, c, c]
    cells = embedded.shape[-1]
    one, other = embedded.flatten(3).chunk(2)  # [B, T, D, n]
    truth = nearest_cells(windows, cells)  # [B, n]
    counts = apart(truth, torch.arange(cells * cells, device=truth.device), cells) > tolerance
    ends = walks(other, one, temperature)
    return Walks(ends, truth, counts, (apart(ends, truth, cells) <= tolerance) & counts)


def walks(second: Tensor, first: Tensor, temperature: float) -> Tensor:
    """Where walks most probably end.

    Args:
        second, first: unit embeddings `[B, T, D, n]` of the two views.
        temperature: of the softmax.

    Returns:
        int64 `[T-1, B, n]`: the cell of frame 0 of the first view at which the walk from each cell of frame 0
        of the second ends, over k = 1 .. T-1 frames.
    """

    def step(source: Tensor, target: Tensor) -> Tensor:
        return (source.transpose(1, 2) @ target / temperature).softmax(dim=-1)  # [B, n, n]

    ends = []
    forward = back = torch.eye(first.shape[-1], device=first.device).expand(len(first), -1, -1)
    for k in range(1, first.shape[1]):
        forward = forward @ step(second[:, k - 1], second[:, k])
        back = step(first[:, k], first[:, k - 1]) @ back
        ends.append((forward @ step(second[:, k], first[:, k]) @ back).argmax(dim=-1))
    return torch.stack(ends)


def apart(one: Tensor, other: Tensor, cells: int) -> Tensor:
    """Distance of cells of a grid with `cells` a side, the larger one of rows and columns."""
    rows, columns = (one // cells - other // cells).abs(), (one % cells - other % cells).abs()
    return rows.maximum(columns)


def neighbours(places: Tensor, tolerance: int) -> Tensor:
    """Number of cells within the tolerance of each place `[B, n]` of n cells, itself included."""
    cells = round(places.shape[1] ** 0.5)

    def along(place: Tensor) -> Tensor:
        return (place + tolerance).clamp(max=cells - 1) - (place - tolerance).clamp(min=0) + 1

    return along(places // cells) * along(places % cells)

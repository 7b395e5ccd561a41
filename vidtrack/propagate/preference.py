"""Annotated frames are preferred to those that labels were carried to, as long as objects keep their size.

Carried labels are a little wrong, and what is copied from them is a little more so; annotated ones are not.
Where an annotated frame matches nearly as well as a carried one, it is the better one to point to. That ends
when an object has grown or shrunk: then a cell of the annotated frame shows another part of its outline.

The usual protocol (Jabri et al. 2020, arXiv 2006.14613) keeps the annotated frame in memory, too, but as one
frame among others; preferring it is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidtrack.propagate.memory import Memory


def preference(memory: Memory, fine: int, strength: float) -> Tensor:
    """What is added to the cosine of a pointer, for each memory cell.

    Args:
        memory: of masks: channel 0 of its labels is the background, each other one an object.
        fine: labels per cell along rows and columns.
        strength: of objects that are as large as they were annotated.

    Returns:
        float32 `[M * h * w]`: for cells of an annotated frame `strength` times the alikeness of what they
        show, else 0. The alikeness of an object is the ratio of its size in the annotated and the newest
        frame, the smaller by the larger; that of the background is the mean over the annotated objects.
        A frame that follows the objects is one of the annotated, as far as it shows them.
    """
    frames, annotated = memory.frames(), memory.annotated()
    cells = frames[0].labelled.numel()
    now = shares(memory.recent[-1].patches, fine).sum(dim=0)  # [K]
    parts = []
    for kept in annotated:
        held = shares(kept.patches, fine)  # [h*w, K]
        then = held.sum(dim=0)
        alike = torch.minimum(then, now) / torch.maximum(then, now).clamp(min=1e-6)
        there = then[1:] > 0
        alike[0] = alike[1:][there].mean() if bool(there.any()) else 0
        parts.append(strength * (held @ alike))
    parts.append(frames[0].patches.new_zeros(cells * (len(frames) - len(annotated))))
    return torch.cat(parts)


def shares(patches: Tensor, fine: int) -> Tensor:
    """The mean label of each cell: `[h, w, fine * fine * K]` to `[h * w, K]`."""
    return patches.view(patches.shape[0] * patches.shape[1], fine**2, -1).mean(dim=1)

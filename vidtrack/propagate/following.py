"""An annotated frame once more, with its objects where they are now.

A cell looks for its match within a window around its own place. The annotated frame has labels that are
right, but once an object has moved away, its cells there lie outside of the window, or at its edge: then
labels come from carried frames alone, and errors add up. So each object and what is close around it is shown
a second time, moved as a whole by as many cells as the object has moved since. The frame itself stays in
memory, too: what does not move with the objects is found there. (Showing it moved alone loses background.)
An object that is less than half or more than twice as large as it was annotated is not followed: it leaves,
is occluded, or its labels have gone over to something else, and who knows where it is.

That the annotated frame follows the objects is ours; the memory is that of the usual protocol (Jabri et al.
2020, arXiv 2006.14613).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidtrack.pointers import rearranged
from vidtrack.propagate.memory import Kept
from vidtrack.propagate.motion import LOST, spread
from vidtrack.propagate.preference import shares

MARGIN = 2  # cells around an object that move with it
SURROUNDINGS = 1e-6  # what is around an object yields to every place that another object claims


class Following:
    """Moves the objects of an annotated frame to where they are in the newest frame.

    Args:
        fine: labels per cell along rows and columns.
        radius: that the keys are made for, see `vidtrack.pointers.as_keys`.
    """

    def __init__(self, fine: int, radius: int) -> None:
        self.fine, self.radius = fine, radius

    def __call__(self, annotated: Kept, newest: Kept) -> Kept | None:
        """The annotated frame with only those objects that have moved, at their new places; None: none has.

        Where two of them come to lie over each other, a cell belongs to the one of which it holds more.
        """
        then = shares(annotated.patches, self.fine)[:, 1:]  # [h*w, objects]: channel 0 is the background
        now = shares(newest.patches, self.fine)[:, 1:]
        rows, columns = annotated.labelled.shape
        steps = (_centres(now, columns) - _centres(then, columns)).round()  # [objects, 2]
        sizes = torch.stack([then.sum(dim=0), now.sum(dim=0)])  # [2, objects]
        another = sizes.amin(dim=0) < LOST * sizes.amax(dim=0)
        steps = steps.masked_fill(another[:, None], 0).nan_to_num(0)  # nan: it is in neither frame
        origin = torch.full((rows, columns), -1, device=then.device)
        claimed = then.new_zeros(rows, columns)
        places = torch.arange(rows * columns, device=then.device).view(rows, columns)
        for number, (down, right) in enumerate(steps.int().tolist()):
            if (not down and not right) or abs(down) >= rows or abs(right) >= columns:
                continue
            share = then[:, number].view(rows, columns)
            claim = (share + SURROUNDINGS) * spread(share > 0, MARGIN)
            (from_y, to_y), (from_x, to_x) = _overlap(rows, down), _overlap(columns, right)
            claim, places_ = claim[from_y, from_x], places[from_y, from_x]
            stronger = claim > claimed[to_y, to_x]
            claimed[to_y, to_x][stronger] = claim[stronger]
            origin[to_y, to_x][stronger] = places_[stronger]
        there = origin >= 0
        if not bool(there.any()):
            return None
        patches, labelled = torch.zeros_like(annotated.patches), torch.zeros_like(annotated.labelled)
        patches[there] = annotated.patches.flatten(0, 1)[origin[there]]
        labelled[there] = annotated.labelled.flatten()[origin[there]]
        keys = rearranged(annotated.keys, origin, self.radius)
        return Kept(annotated.index, keys, patches, labelled)


def _centres(share: Tensor, columns: int) -> Tensor:
    """Row and column of the middle of each object of `[h*w, objects]`; nan where none of it is there."""
    place = torch.arange(len(share), device=share.device)
    where = torch.stack([place // columns, place % columns], dim=1).to(share.dtype)  # [h*w, 2]
    return share.T @ where / share.sum(dim=0)[:, None]


def _overlap(length: int, step: int) -> tuple[slice, slice]:
    """What stays inside of `length` places that move by `step`: before and after."""
    return slice(max(0, -step), length - max(0, step)), slice(max(0, step), length + min(0, step))

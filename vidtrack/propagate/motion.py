"""How far things moved: what need not be searched, and what need not be remembered."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.pointers import Pointers
from vidtrack.propagate.memory import Kept
from vidtrack.propagate.settings import Propagation

LOST = 0.5  # an object that keeps less than this share of its annotated mass is looked for everywhere
MOST = 0.9  # of the cells, which decide how far things moved: the others are mistakes
SLACK = 2  # cells between what can be asked for next and what is no longer remembered


class Motion:
    """Follows the masses of all objects, and how far the pointers reach from one frame to the next.

    The pointers tell of everything around the objects, so that a camera that pans counts as motion too.

    Args:
        settings: `reach`, `margin` and `radius` in cells, see `Propagation`.
        first: the first channel that is an object.
    """

    def __init__(self, settings: Propagation, first: int) -> None:
        self._settings, self._first = settings, first
        self._whole = torch.zeros(0)  # mass of each object in its annotation
        self._mass = torch.zeros(0)
        self._step: int | None = None  # cells per frame, rounded up; None: not known yet

    def restart(self, labels: Tensor) -> None:
        """Start from an annotated label map `[h, w, K]`."""
        self._step = None
        self.add(labels)
        self._whole = self._mass

    def add(self, labels: Tensor) -> None:
        """The next frame's label map."""
        self._mass = labels[..., self._first :].sum(dim=(0, 1))

    def follow(self, pointers: Pointers, newest: int, size: tuple[int, int]) -> None:
        """See how far the pointers reach.

        Args:
            pointers: of the next frame.
            newest: place in the memory of the frame just before it; -1: it is not there.
            size: `(h, w)` cells.
        """
        frame, place = pointers.index[:, 0] // (size[0] * size[1]), pointers.index[:, 0] % (size[0] * size[1])
        found = (frame == newest) & (pointers.weight[:, 0] > 0)
        if not bool(found.any()):
            self._step = None
            return
        place, cells = place[found], pointers.cells[found]
        moved = torch.maximum(
            (place // size[1] - cells // size[1]).abs(), (place % size[1] - cells % size[1]).abs()
        )
        self._step = math.ceil(float(moved.float().quantile(MOST)))

    def lost(self) -> bool:
        """Some object has lost most of its mass, or nothing is known of the motion yet."""
        return self._step is None or bool((self._mass < LOST * self._whole).any())

    def step(self) -> int:
        """Cells that most things moved at most in the last step."""
        return self._settings.radius if self._step is None else self._step

    def reach(self) -> int:
        """Cells around every label within which the next frame is searched.

        It is the window's radius while the motion is unknown or an object is lost, else `settings.reach` and
        the motion of the last step.
        """
        wanted, radius = self._settings.reach, self._settings.radius
        return radius if wanted is None or self.lost() else min(radius, wanted + self.step())

    def margin(self) -> int | None:
        """Cells around every label that are remembered; None: all.

        It is at least as much as the next frame can ask for: otherwise background that an object is about to
        pass could only point to the object.
        """
        wanted = self._settings.margin
        return None if wanted is None else max(wanted, self.reach() + self.step() + SLACK)


def reachable(frames: list[Kept], reach: int) -> Tensor:
    """bool `[h, w]`: cells within `reach` cells of a labelled cell of some memory frame."""
    return spread(torch.stack([kept.labelled for kept in frames]).any(dim=0), reach)


def spread(cells: Tensor, reach: int) -> Tensor:
    """bool `[h, w]`: cells within `reach` rows and columns of a true cell of `[h, w]`."""
    wide = F.max_pool2d(cells[None, None].float(), (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(wide, (2 * reach + 1, 1), stride=1, padding=(reach, 0))[0, 0] > 0

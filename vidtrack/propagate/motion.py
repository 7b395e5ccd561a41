"""How far objects can be from where they were: what need not be searched."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidtrack.propagate.settings import Propagation

LOST = 0.5  # an object that keeps less than this share of its annotated mass is looked for everywhere


class Motion:
    """Follows the centres and masses of all objects from frame to frame.

    Args:
        settings: `reach` and `radius` in cells, see `Propagation`.
        first: the first channel that is an object.
    """

    def __init__(self, settings: Propagation, first: int) -> None:
        self._settings, self._first = settings, first
        self._whole = torch.zeros(0)  # mass of each object in its annotation
        self._mass = torch.zeros(0)
        self._centers: list[Tensor] = []  # of the last two frames, [objects, 2]

    def restart(self, labels: Tensor) -> None:
        """Start from an annotated label map `[h, w, K]`."""
        self._centers = []
        self.add(labels)
        self._whole = self._mass

    def add(self, labels: Tensor) -> None:
        """The next frame's label map."""
        objects = labels[..., self._first :]
        rows, columns = objects.sum(dim=1), objects.sum(dim=0)  # [h, objects], [w, objects]
        self._mass = rows.sum(dim=0)
        mass = self._mass.clamp(min=1e-6)
        y = (rows * torch.arange(len(rows), device=rows.device)[:, None]).sum(dim=0) / mass
        x = (columns * torch.arange(len(columns), device=rows.device)[:, None]).sum(dim=0) / mass
        self._centers = [*self._centers[-1:], torch.stack([y, x], dim=-1)]

    def lost(self) -> bool:
        """Some object has lost most of its mass, or nothing is known of its motion yet."""
        return len(self._centers) < 2 or bool((self._mass < LOST * self._whole).any())

    def step(self) -> int:
        """Cells, rounded up, that the object with the largest motion moved in the last step."""
        if len(self._centers) < 2:
            return 0
        there = self._whole > 0
        before, now = self._centers
        moved = (now - before).abs().amax(dim=-1)[there]
        return math.ceil(float(moved.max())) if len(moved) else 0

    def reach(self) -> int:
        """Cells around every label within which the next frame is searched.

        It is the window's radius while the motion is unknown or an object is lost, else `settings.reach` and
        once more the largest motion of an object in the last step.
        """
        wanted, radius = self._settings.reach, self._settings.radius
        return radius if wanted is None or self.lost() else min(radius, wanted + self.step())

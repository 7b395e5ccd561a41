"""Masks: a label map of one probability per object."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from vidtrack.geometry import working_size
from vidtrack.labels.masks import Masks
from vidtrack.propagate.annotations import masks_to_cells
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.propagator import Carried, Propagator
from vidtrack.propagate.readout import winners
from vidtrack.propagate.settings import Propagation

LEVELS = 255  # a probability laid aside is a multiple of 1/255: fainter ones are dropped anyway


class MaskCarrier(Carrier[Masks, Carried]):
    """Carries the masks of any number of objects.

    Args:
        settings: see `Propagation`.
        stride: working pixels per cell.
        objects: ids that are known from the start, in the order of the channels; others are added when an
            annotation has them.
    """

    def __init__(self, settings: Propagation, stride: int, objects: Iterable[int] = ()) -> None:
        self.settings, self.stride = settings, stride
        self.objects = list(objects)
        self.latest: Masks | None = None
        self._propagator = Propagator(settings)

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Masks) -> None:
        """An object that the annotation lacks is not in its frame."""
        self.objects += [number for number in labels.objects if number not in self.objects]
        self.latest = labels
        self._propagator.annotate(index, embedding, self._cells(labels, embedding))

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Masks) -> None:
        """Objects that the annotation behind lacks count as background there: they appear with theirs."""
        assert self.latest is not None
        known = np.isin(labels.ids, self.latest.objects)
        before = Masks(np.where(known, labels.ids, 0).astype(np.uint8), void=labels.void)
        self._propagator.look_ahead(index, embedding, self._cells(before, embedding))

    def _cells(self, masks: Masks, embedding: Tensor) -> Tensor:
        size = working_size(*masks.size, self.settings.size)
        maps = masks_to_cells(masks.ids, masks.void, self.objects, size, self.stride)
        return maps.to(embedding.device)

    def region(self, later: int = 0) -> Tensor | None:
        """See `Propagator.region`."""
        return self._propagator.region(later)

    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> Carried:
        """See `Propagator.step`."""
        return self._propagator.step(index, embedding, region)

    def read(self, carried: Carried, image: np.ndarray) -> tuple[Masks, Confidence]:
        """Up-sample, snap to the frame's edges, and take the most probable object of each pixel."""
        height, width = image.shape[:2]
        size = working_size(height, width, self.settings.size)
        labels = carried.labels
        seen = torch.from_numpy(image).to(labels.device) if self.settings.refine else None
        channel, confidence = winners(
            labels, size, self.stride, (height, width), seen, self.settings.foreground
        )
        ids = np.array([0, *self.objects], np.uint8)[channel.numpy()]
        known = self.latest
        masks = Masks(ids, names=known.names, colors=known.colors) if known else Masks(ids)
        return masks, {self.objects[k - 1]: value for k, value in confidence.items()}

    def fuse(self, earlier: Carried, later: Carried, share: float) -> Carried:
        """Per cell the mean of both, weighted by how sure each is and how near its annotation."""
        weights = [
            (1 - share) * _sureness(earlier),  # [h, w]
            share * _sureness(later),
        ]
        total = (weights[0] + weights[1]).clamp(min=1e-6)
        mixed = (weights[0][..., None] * earlier.labels + weights[1][..., None] * later.labels) / total[
            ..., None
        ]
        return Carried(mixed, torch.maximum(earlier.similarity, later.similarity))

    def pack(self, carried: Carried) -> dict[str, np.ndarray]:
        """One byte per probability and similarity."""
        return {
            "labels": (carried.labels * LEVELS).round().byte().cpu().numpy(),
            "similarity": (carried.similarity.clamp(0, 1) * LEVELS).round().byte().cpu().numpy(),
        }

    def unpack(self, arrays: dict[str, np.ndarray]) -> Carried:
        """Probabilities are made to sum to 1 again."""
        labels = torch.from_numpy(arrays["labels"]).float()
        labels = labels / labels.sum(dim=-1, keepdim=True).clamp(min=1)
        return Carried(labels, torch.from_numpy(arrays["similarity"]).float() / LEVELS)

    def empty(self, frame: tuple[int, int]) -> Masks:
        """No object anywhere."""
        return Masks(np.zeros(frame, np.uint8))

    def given(self, labels: Masks) -> Confidence:
        """1 for each object."""
        return dict.fromkeys(labels.objects, 1.0)


def _sureness(carried: Carried) -> Tensor:
    """How decided each cell is, times how well it was recognised: `[h, w]`, 0..1."""
    best = carried.labels.amax(dim=-1)
    return best.square() * carried.similarity.clamp(min=0).square() + 1e-3

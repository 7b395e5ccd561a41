"""Masks: a label map of one probability per object."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.geometry import cells, working_size
from vidtrack.labels.masks import Masks
from vidtrack.propagate.annotations import masks_to_cells
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.confidence import MaskConfidence, joined
from vidtrack.propagate.entering import drop_entering
from vidtrack.propagate.fusion import decidedness, mean
from vidtrack.propagate.propagator import Carried, Propagator
from vidtrack.propagate.readout import winners
from vidtrack.propagate.settings import Propagation

LEAST = 0.03  # expected J of an object that is lost: its word still counts a little
FINE = 2  # labels per cell, along rows and columns
LEVELS = 255  # a probability laid aside is a multiple of 1/255: fainter ones are dropped anyway


class MaskCarrier(Carrier[Masks, Carried]):
    """Carries the masks of any number of objects.

    Args:
        settings: see `Propagation`.
        stride: working pixels per cell.
        objects: ids that are known from the start, in the order of the channels; others are added when an
            annotation has them.

    Attributes:
        fine: labels per cell along rows and columns: label maps are `[fine * h, fine * w, K]`.
    """

    def __init__(self, settings: Propagation, stride: int, objects: Iterable[int] = ()) -> None:
        self.settings, self.stride = settings, stride
        self._known = list(objects)
        self.objects = list(objects)
        self.latest: Masks | None = None
        self.ahead: Masks | None = None
        self._before = torch.zeros(0)  # the label map of the frame before
        self.confidence = MaskConfidence()
        self.fine = FINE if stride % FINE == 0 and settings.preset is None else 1
        self._propagator = Propagator(
            settings, fine=self.fine, bijective=settings.bijective, annotated=settings.annotated
        )

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Masks) -> None:
        """An object that the annotation lacks is not in its frame."""
        self.latest, self.ahead = labels, None
        self.objects = [*self._known, *(number for number in labels.objects if number not in self._known)]
        maps = self._maps(labels, embedding)
        self._before = maps
        self._propagator.annotate(index, embedding, maps)
        self.confidence.annotate(embedding, coarse(maps, self.fine))

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Masks) -> None:
        """Objects that the annotation behind lacks count as background there: they appear with theirs."""
        assert self.latest is not None
        self.ahead = labels
        known = np.isin(labels.ids, self.latest.objects)
        before = Masks(np.where(known, labels.ids, 0).astype(np.uint8), void=labels.void)
        maps = self._maps(before, embedding)
        self._propagator.look_ahead(index, embedding, maps)
        self.confidence.look_ahead(embedding, coarse(maps, self.fine))

    def _maps(self, masks: Masks, embedding: Tensor) -> Tensor:
        """Label map `[fine * h, fine * w, K]`: whole cells, of which the last may lie in the padding."""
        size = working_size(*masks.size, self.settings.size)
        maps = masks_to_cells(masks.ids, masks.void, self.objects, size, self.stride // self.fine)
        rows, columns = (self.fine * embedding.shape[axis] - maps.shape[axis] for axis in (0, 1))
        if rows or columns:
            padded = F.pad(maps.permute(2, 0, 1), (0, columns, 0, rows), mode="replicate")
            maps = padded.permute(1, 2, 0).contiguous()
        return maps.to(embedding.device)

    def region(self, later: int = 0) -> Tensor | None:
        """See `Propagator.region`."""
        return self._propagator.region(later)

    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> Carried:
        """See `Propagator.step`, and `drop_entering`."""
        carried = self._propagator.look(index, embedding, region)
        if self.settings.drop_entering:
            carried.labels = drop_entering(carried.labels, self._before, self.fine)
        self._before = carried.labels
        self._propagator.remember(index, embedding, carried.labels, region)
        carried.confidence = self.confidence(embedding, coarse(carried.labels, self.fine))
        return carried

    def read(self, carried: Carried, image: np.ndarray) -> tuple[Masks, Confidence]:
        """As `shown`; the confidence of an object that has pixels is its expected J.

        See `vidtrack.propagate.confidence`; what has no expected J of one pass was joined from two.
        """
        masks, probability = self.shown(carried, image)
        if carried.confidence is None:
            return masks, {number: joined(value) for number, value in probability.items()}
        one = dict(zip(self.objects, carried.confidence.tolist(), strict=False))
        return masks, {number: one[number] for number in probability}

    def shown(self, carried: Carried, image: np.ndarray) -> tuple[Masks, dict[int, float]]:
        """Up-sample, snap to the frame's edges, and take the most probable object of each pixel.

        Returns:
            The masks, and the mean probability of each object that has pixels, inside them.
        """
        height, width = image.shape[:2]
        size = working_size(height, width, self.settings.size)
        labels, stride = self.soft(carried, size)
        seen = torch.from_numpy(image).to(labels.device) if self.settings.refine else None
        channel, probability = winners(labels, size, stride, (height, width), seen, self.settings.foreground)
        ids = np.array([0, *self.objects], np.uint8)[channel.numpy()]
        return self.named(ids), {self.objects[k - 1]: value for k, value in probability.items()}

    def named(self, ids: np.ndarray) -> Masks:
        """Masks with the names and colours that the annotations around give to objects."""
        around = [masks for masks in (self.ahead, self.latest) if masks is not None]  # the latter counts more
        names = {number: name for masks in around for number, name in masks.names.items()}
        colors = {number: color for masks in around for number, color in masks.colors.items()}
        return Masks(ids, names=names, colors=colors)

    def soft(self, carried: Carried, size: tuple[int, int]) -> tuple[Tensor, int]:
        """The label map on the grid of a frame of working size `size`, and its working pixels per label."""
        stride = self.stride // self.fine
        return carried.labels[: cells(size[0], stride), : cells(size[1], stride)], stride

    def fuse(self, earlier: Carried, later: Carried, share: float) -> Carried:
        """The mean of both, weighted by nearness in time and by trust, see `_trust`; the rest is background.

        An object that only one annotation has is carried by one pass alone, as far as it goes.
        """
        mixed = mean(earlier, later, (1 - share) * _trust(earlier), share * _trust(later))
        objects = mixed.labels[..., 1:]
        objects = objects / objects.sum(dim=-1, keepdim=True).clamp(min=1)
        background = 1 - objects.sum(dim=-1, keepdim=True)
        labels = torch.cat([background, objects], dim=-1)
        return Carried(labels, mixed.similarity)

    def pack(self, carried: Carried) -> dict[str, np.ndarray]:
        """One byte per probability and similarity, half precision for the confidence."""
        arrays = {
            "labels": (carried.labels * LEVELS).round().byte().cpu().numpy(),
            "similarity": (carried.similarity.clamp(0, 1) * LEVELS).round().byte().cpu().numpy(),
        }
        if carried.confidence is not None:
            arrays["confidence"] = carried.confidence.half().cpu().numpy()
        return arrays

    def unpack(self, arrays: dict[str, np.ndarray]) -> Carried:
        """Probabilities are made to sum to 1 again."""
        labels = torch.from_numpy(arrays["labels"]).float()
        labels = labels / labels.sum(dim=-1, keepdim=True).clamp(min=1)
        confidence = torch.from_numpy(arrays["confidence"]).float() if "confidence" in arrays else None
        return Carried(labels, torch.from_numpy(arrays["similarity"]).float() / LEVELS, confidence)

    def empty(self, frame: tuple[int, int]) -> Masks:
        """No object anywhere."""
        return Masks(np.zeros(frame, np.uint8))

    def given(self, labels: Masks) -> Confidence:
        """1 for each object."""
        return dict.fromkeys(labels.objects, 1.0)


def coarse(labels: Tensor, fine: int) -> Tensor:
    """The mean label of each cell: `[fine * h, fine * w, K]` to `[h, w, K]`."""
    return labels if fine == 1 else F.avg_pool2d(labels.permute(2, 0, 1), fine).permute(1, 2, 0)


def of_labels(similarity: Tensor, labels: Tensor) -> Tensor:
    """What is known of cells `[h, w]`, for each place of a label map `[fine * h, fine * w, K]`."""
    for axis in (0, 1):
        similarity = similarity.repeat_interleave(labels.shape[axis] // similarity.shape[axis], axis)
    return similarity


def _trust(carried: Carried) -> Tensor:
    """How far a label can be trusted, of the shape of the label map.

    How decided and well recognised the cell is, times the squares of each object's decidedness and expected
    J: a pass that has gone over to something else is decided too, but that looks unlike the annotation.
    """
    cell = carried.labels.amax(dim=-1) * of_labels(carried.similarity.clamp(min=0), carried.labels) + 1e-3
    sure = decidedness(carried.labels)
    if carried.confidence is not None:
        sure[1:] *= carried.confidence.clamp(min=LEAST)
    return cell[..., None] * sure.square()

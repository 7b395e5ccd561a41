"""Masks and keypoints carried exactly as the code of a paper carries them, see `presets`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vidtrack.geometry import rescale_points, working_size
from vidtrack.labels.keypoints import Keypoints
from vidtrack.labels.masks import Masks
from vidtrack.propagate.carrier import Confidence
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.points import CarriedPoints, PointCarrier
from vidtrack.propagate.preset_maps import heat_maps, peaks, read_out, to_label_map
from vidtrack.propagate.presets import PresetPropagator
from vidtrack.propagate.propagator import Carried
from vidtrack.propagate.settings import Propagation


def _propagator(settings: Propagation) -> PresetPropagator:
    assert settings.preset is not None
    return PresetPropagator(
        settings.preset,
        topk=settings.topk,
        temperature=settings.temperature,
        radius=settings.radius,
        context=len(settings.context),
    )


class PresetMaskCarrier(MaskCarrier):
    """Masks by a preset, see `MaskCarrier`. The papers know one annotated frame: nothing looks ahead."""

    def __init__(self, settings: Propagation, stride: int, objects: tuple[int, ...] = ()) -> None:
        super().__init__(settings, stride, objects)
        self._preset = _propagator(settings)

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Masks) -> None:
        """Start anew from an annotated frame; void pixels are background, as in the papers' code."""
        self.latest, self.ahead = labels, None
        self.objects = [*self._known, *(number for number in labels.objects if number not in self._known)]
        assert self.settings.preset is not None
        size = working_size(*frame, self.settings.size)
        maps = to_label_map(self.settings.preset, labels.ids, self.objects, size, self.stride)
        self._preset.annotate(index, embedding, maps.to(embedding.device))

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Masks) -> None:
        """Only the names: the papers look back."""
        self.ahead = labels

    def region(self, later: int = 0) -> None:
        """All cells: the papers leave nothing out."""

    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> Carried:
        """See `PresetPropagator.step`; it tells no similarity."""
        labels = self._preset.step(index, embedding)
        return Carried(labels, torch.ones_like(labels[..., 0]))

    def read(self, carried: Carried, image: np.ndarray) -> tuple[Masks, Confidence]:
        """Up-sampled and decided as in the paper's code."""
        assert self.settings.preset is not None
        frame = (image.shape[0], image.shape[1])
        size = working_size(*frame, self.settings.size)
        channel, confidence = read_out(self.settings.preset, carried.labels, size, self.stride, frame)
        ids = np.array([0, *self.objects], np.uint8)[channel.cpu().numpy()]
        return self.named(ids), {self.objects[k - 1]: value for k, value in confidence.items()}


class PresetPointCarrier(PointCarrier):
    """Keypoints by the plain heat maps of CRW with the pointers of a preset; see `PointCarrier`."""

    def __init__(self, settings: Propagation, stride: int) -> None:
        super().__init__(settings, stride)
        self._preset = _propagator(settings)

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Keypoints) -> None:
        """Points without coordinates are not carried."""
        self._latest = labels
        self._xy = self._cells(labels, frame, embedding.device)
        size = working_size(*frame, self.settings.size)
        points = rescale_points(torch.from_numpy(labels.xy).reshape(-1, 2), frame, size)
        self._preset.annotate(index, embedding, heat_maps(points, size, self.stride).to(embedding.device))

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Keypoints) -> None:
        """Nothing: the papers look back only."""

    def region(self, later: int = 0) -> None:
        """All cells: the papers leave nothing out."""

    def step(
        self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None
    ) -> CarriedPoints:
        """A point whose heat map is empty is lost: it stays where it was, with confidence 0."""
        maps = self._preset.step(index, embedding)
        found = self._in_cells(peaks(maps, self.stride))
        there = torch.isfinite(found).all(dim=-1)
        self._xy = torch.where(there[:, None], found, self._xy)
        heat = maps[..., 1:].amax(dim=(0, 1))  # channel 0 is where no point is
        return CarriedPoints(self._xy, torch.where(there, heat.clamp(0, 1), torch.zeros_like(heat)))

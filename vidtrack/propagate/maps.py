"""Maps: any per-pixel values, carried as they are; pixels without a value carry nothing."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrack.geometry import to_cells, to_pixels, working_size
from vidtrack.labels.maps import Maps
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.fusion import mean
from vidtrack.propagate.propagator import Carried, Propagator
from vidtrack.propagate.refine import Guide
from vidtrack.propagate.settings import Propagation

LEAST = 1e-3  # share of a cell that has values, below which there are none to be told


class MapCarrier(Carrier[Maps, Carried]):
    """Carries K values per pixel.

    The label map has K + 1 channels: how much of the cell has values (0..1), and the values times that share,
    so that a mean over cells weighs those without values by nothing.

    Args:
        settings: see `Propagation`.
        stride: working pixels per cell.
        channels: K, for frames without values.
    """

    def __init__(self, settings: Propagation, stride: int, channels: int = 1) -> None:
        self.settings, self.stride = settings, stride
        self._propagator = Propagator(settings, finish=_as_read, labelled=_everywhere)
        self._channels = channels

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Maps) -> None:
        """Start anew from the values of a frame."""
        self._channels = labels.values.shape[-1]
        self._propagator.annotate(index, embedding, self._cells(labels).to(embedding.device))

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Maps) -> None:
        """Attend to the values of a frame to come."""
        self._propagator.look_ahead(index, embedding, self._cells(labels).to(embedding.device))

    def _cells(self, maps: Maps) -> Tensor:
        size = working_size(*maps.size, self.settings.size)
        known = maps.labelled[..., None]  # [H, W, 1]
        values = np.where(known, maps.values, 0)
        stacked = np.concatenate([known.astype(np.float32), values], axis=-1)  # [H, W, 1 + K]
        cells = to_cells(torch.from_numpy(stacked).permute(2, 0, 1), size, self.stride)
        return cells.permute(1, 2, 0).contiguous()  # [h, w, 1 + K]

    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> Carried:
        """See `Propagator.step`."""
        return self._propagator.step(index, embedding, region)

    def read(self, carried: Carried, image: np.ndarray) -> tuple[Maps, Confidence]:
        """Up-sample each channel along the frame's edges; nan where less than half has values."""
        height, width = image.shape[:2]
        size = working_size(height, width, self.settings.size)
        labels = carried.labels.permute(2, 0, 1)  # [1 + K, h, w]
        share = to_pixels(labels[:1].contiguous(), size, self.stride, (height, width))[0]
        known = labels[0] >= LEAST
        cells = _filled(labels[1:] / labels[:1].clamp(min=LEAST), known)  # [K, h, w]
        if self.settings.refine:
            guide = Guide(torch.from_numpy(image).to(labels.device), size)
            whole = (slice(0, height), slice(0, width))
            values = torch.stack([guide.refine(cell, self.stride, *whole) for cell in cells], dim=-1)
        else:
            values = to_pixels(cells.contiguous(), size, self.stride, (height, width)).permute(1, 2, 0)
        values = values.masked_fill((share < 0.5)[..., None], float("nan"))  # [H, W, K]
        trust = to_pixels(carried.similarity[None].contiguous(), size, self.stride, (height, width))[0]
        maps = Maps(values.contiguous().cpu().numpy(), trust.clamp(0, 1).cpu().numpy())
        return maps, {0: float(carried.similarity.clamp(0, 1).mean())}

    def fuse(self, earlier: Carried, later: Carried, share: float) -> Carried:
        """Per cell the mean of both, weighted by how well it was recognised and how near its annotation."""
        first, second = ((1 - share) * _trust(earlier), share * _trust(later))
        return mean(earlier, later, first, second)

    def pack(self, carried: Carried) -> dict[str, np.ndarray]:
        """Values stay float32: their range is unknown."""
        return {
            "labels": carried.labels.cpu().numpy(),
            "similarity": carried.similarity.half().cpu().numpy(),
        }

    def unpack(self, arrays: dict[str, np.ndarray]) -> Carried:
        """Inverse of `pack`."""
        return Carried(torch.from_numpy(arrays["labels"]), torch.from_numpy(arrays["similarity"]).float())

    def empty(self, frame: tuple[int, int]) -> Maps:
        """nan everywhere."""
        values = np.full((*frame, self._channels), np.nan, np.float32)
        return Maps(values, np.zeros(frame, np.float32))

    def given(self, labels: Maps) -> Confidence:
        """1 for the frame."""
        return {0: 1.0}


def _trust(carried: Carried) -> Tensor:
    """How well each cell was recognised, squared: `[h, w, 1]`."""
    return carried.similarity.clamp(min=0).square()[..., None] + 1e-3


def _filled(cells: Tensor, known: Tensor) -> Tensor:
    """Cells without values get those of the nearest one that has some: pixels between two take from both.

    Args:
        cells: `[K, h, w]`.
        known: bool `[h, w]`.
    """
    missing = (~known).cpu().numpy().astype(np.uint8)
    if not missing.any() or missing.all():
        return cells
    _, nearest = cv2.distanceTransformWithLabels(missing, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    there = np.flatnonzero(missing == 0)
    places = np.zeros(nearest.max() + 1, np.int64)
    places[nearest.flat[there]] = there
    return cells.flatten(1)[:, torch.from_numpy(places[nearest]).flatten()].view_as(cells)


def _as_read(rows: Tensor) -> Tensor:
    return rows


def _everywhere(labels: Tensor) -> Tensor:
    return torch.ones_like(labels[..., 0], dtype=torch.bool)

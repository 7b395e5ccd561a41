"""Keypoints: a small heat map per point, read out at its peak with sub-cell accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.geometry import cell_to_pixel, pixel_to_cell, rescale_points, working_size
from vidtrack.labels.keypoints import Keypoints
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.propagator import MIN_MASS, Propagator
from vidtrack.propagate.settings import Propagation

SPREAD = 0.5  # standard deviation of a point's heat map in cells
NEAR = 2  # cells around the peak over which a position is averaged


@dataclass
class CarriedPoints:
    """What one step says of the points of a frame.

    Attributes:
        xy: float32 `[N, 2]`, continuous cell coordinates.
        confidence: float32 `[N]`, 0..1.
    """

    xy: Tensor
    confidence: Tensor


class PointCarrier(Carrier[Keypoints, CarriedPoints]):
    """Carries keypoints.

    Args:
        settings: see `Propagation`.
        stride: working pixels per cell.
    """

    def __init__(self, settings: Propagation, stride: int) -> None:
        self.settings, self.stride = settings, stride
        self._propagator = Propagator(settings, finish=_drop_faint, labelled=_has_mass, fill=0)
        self._latest: Keypoints | None = None
        self._xy = torch.zeros(0, 2)

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Keypoints) -> None:
        """Points without coordinates are not carried."""
        self._latest = labels
        self._xy = self._cells(labels, frame, embedding.device)
        self._propagator.annotate(index, embedding, heat_maps(self._xy, embedding.shape[:2]))

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Keypoints) -> None:
        """Attend to the points of a frame to come."""
        maps = heat_maps(self._cells(labels, frame, embedding.device), embedding.shape[:2])
        self._propagator.look_ahead(index, embedding, maps)

    def _cells(self, labels: Keypoints, frame: tuple[int, int], device: torch.device) -> Tensor:
        """Cell coordinates `[I * P, 2]`, nan for points that are not annotated."""
        xy = torch.from_numpy(labels.xy).reshape(-1, 2)
        size = working_size(*frame, self.settings.size)
        return self._in_cells(rescale_points(xy, frame, size)).to(device)

    def _in_cells(self, xy: Tensor) -> Tensor:
        """Working pixels to cell coordinates."""
        return pixel_to_cell(xy, self.stride)

    def step(self, index: int, embedding: Tensor, image: np.ndarray) -> CarriedPoints:
        """Carry the heat maps and find their peaks; a point without heat stays where it was."""
        carried = self._propagator.step(index, embedding)
        xy, mass = peaks(carried.labels)
        self._xy = torch.where((mass > 0)[:, None], xy, self._xy)
        return CarriedPoints(self._xy, mass.clamp(0, 1))

    def read(self, carried: CarriedPoints, image: np.ndarray) -> tuple[Keypoints, Confidence]:
        """Cells to pixels of the frame."""
        assert self._latest is not None
        frame = (image.shape[0], image.shape[1])
        size = working_size(*frame, self.settings.size)
        xy = rescale_points(cell_to_pixel(carried.xy, self.stride), size, frame)
        shape = self._latest.xy.shape[:2]
        confidence = carried.confidence.reshape(shape).cpu().numpy().astype(np.float32)
        known = np.isfinite(self._latest.xy).all(axis=-1)
        points = replace(
            self._latest,
            xy=xy.reshape(*shape, 2).cpu().numpy().astype(np.float32),
            visible=(confidence > 0) & known,
            confidence=np.where(known, confidence, 0).astype(np.float32),
        )
        return points, _of_instances(points)

    def fuse(self, earlier: CarriedPoints, later: CarriedPoints, share: float) -> CarriedPoints:
        """Per point the mean place of both, weighted by confidence and nearness in time."""
        first = (1 - share) * earlier.confidence + 1e-6  # [N]
        second = share * later.confidence + 1e-6
        total = first + second
        xy = (first[:, None] * earlier.xy + second[:, None] * later.xy) / total[:, None]
        return CarriedPoints(xy, torch.maximum(earlier.confidence, later.confidence))

    def pack(self, carried: CarriedPoints) -> dict[str, np.ndarray]:
        """As they are."""
        return {"xy": carried.xy.cpu().numpy(), "confidence": carried.confidence.cpu().numpy()}

    def unpack(self, arrays: dict[str, np.ndarray]) -> CarriedPoints:
        """Inverse of `pack`."""
        return CarriedPoints(torch.from_numpy(arrays["xy"]), torch.from_numpy(arrays["confidence"]))

    def empty(self, frame: tuple[int, int]) -> Keypoints:
        """No instance at all."""
        return Keypoints.from_points([])

    def given(self, labels: Keypoints) -> Confidence:
        """1 for each instance that has a point."""
        return dict.fromkeys(
            (n for n, k in zip(labels.instances, labels.labelled, strict=True) if k.any()), 1.0
        )


def heat_maps(xy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One Gaussian per point at its exact place.

    Args:
        xy: cell coordinates `[N, 2]`; nan gives an empty map.
        shape: `(h, w)` cells.

    Returns:
        float32 `[h, w, N]`, 0..1.
    """
    y, x = torch.meshgrid(*(torch.arange(n, device=xy.device) for n in shape), indexing="ij")
    squared = (x[..., None] - xy[:, 0]) ** 2 + (y[..., None] - xy[:, 1]) ** 2  # [h, w, N]
    return _drop_faint(torch.exp(-squared / (2 * SPREAD**2)).nan_to_num(0).float())


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where the heat maps peak.

    Args:
        maps: float32 `[h, w, N]`.

    Returns:
        Cell coordinates float32 `[N, 2]`, the mean around the largest 3x3 sum, and that sum `[N]`.
    """
    height, width = maps.shape[:2]
    heat = maps.permute(2, 0, 1)  # [N, h, w]
    smooth = F.avg_pool2d(heat[None], 3, stride=1, padding=1)[0] * 9
    best, place = smooth.flatten(1).max(dim=1)
    y, x = place // width, place % width
    rows, columns = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
    near = ((rows[:, None] - y[:, None, None]).abs() <= NEAR) & ((columns - x[:, None, None]).abs() <= NEAR)
    local = heat * near
    total = local.sum(dim=(1, 2)).clamp(min=1e-9)
    center_x = (local.sum(dim=1) * columns).sum(dim=1) / total
    center_y = (local.sum(dim=2) * rows).sum(dim=1) / total
    return torch.stack([center_x, center_y], dim=-1), best


def _drop_faint(rows: Tensor) -> Tensor:
    return rows * (rows >= MIN_MASS)


def _has_mass(maps: Tensor) -> Tensor:
    return maps.amax(dim=-1) > 0


def _of_instances(points: Keypoints) -> Confidence:
    """The mean confidence of each instance's points."""
    known = points.labelled
    return {
        name: float(points.confidence[i][known[i]].mean())
        for i, name in enumerate(points.instances)
        if known[i].any()
    }

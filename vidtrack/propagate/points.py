"""Keypoints: a small heat map per point, read out at its peak with sub-cell accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.geometry import cell_to_pixel, pixel_to_cell, rescale_points, working_size
from vidtrack.labels.keypoints import Keypoints
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.propagator import Propagator, drop_faint
from vidtrack.propagate.settings import Propagation

SPREAD = 0.7  # standard deviation of a point's heat map in cells
NEAR = 2  # cells around the peak over which a position is averaged
STEADY = 6.0  # standard deviation, in cells, of the motion that is expected between two frames
_WHOLE = float(sum(math.exp(-(a * a + b * b) / (2 * SPREAD**2)) for a in (-1, 0, 1) for b in (-1, 0, 1)))
AGREE = 4.0  # cells: places of two passes that are nearer than this mean the same
LOST = 0.02  # with less of its heat than this, a point is not found
FINE = 4  # places per cell at which a point is sharpened
MOVE = 0.5  # standard deviation, in cells, of the move that is expected from it
TEMPERATURE = 0.05  # of its soft-argmax
VISIBLE = 0.25  # with less than this, it counts as occluded


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

    The pointers copy heat maps as they copy masks (Jabri et al. 2020, arXiv 2006.14613); but what is kept of
    a frame is a fresh heat map at the place that was found, not the blurred one that was read: it can't fade
    or split, and memory can reach far back. Of two places, the one nearer to the last is preferred.

    Args:
        settings: see `Propagation`.
        stride: working pixels per cell.
    """

    def __init__(self, settings: Propagation, stride: int) -> None:
        self.settings, self.stride = settings, stride
        update = {"context": settings.point_context, "topk": settings.point_topk}
        own = settings.model_copy(update=update)
        self._propagator = Propagator(own, finish=drop_faint, labelled=_has_mass, fill=0)
        self._latest: Keypoints | None = None
        self._xy = torch.zeros(0, 2)
        self._seen = torch.zeros(0, 1)  # descriptor of each point in its annotation

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Keypoints) -> None:
        """Points without coordinates are not carried."""
        self._latest = labels
        self._xy = self._cells(labels, frame, embedding.device)
        self._seen = sample(embedding, self._xy)
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

    def region(self, later: int = 0) -> Tensor | None:
        """See `Propagator.region`."""
        return self._propagator.region(later)

    def step(
        self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None
    ) -> CarriedPoints:
        """Find each point, and remember the frame with it; a point that is not found stays where it was."""
        if not len(self._xy):
            return CarriedPoints(self._xy, self._xy.new_zeros(0))
        heat = self._propagator.look(index, embedding, region).labels  # [h, w, N]
        xy, mass = peaks(heat, self._xy)
        confidence = (mass / _WHOLE).clamp(0, 1)
        found = confidence > LOST
        self._xy = torch.where(found[:, None], xy, self._xy)
        kept = torch.where(found[:, None], xy, torch.full_like(xy, torch.nan))
        maps = heat_maps(kept, embedding.shape[:2])
        self._propagator.remember(index, embedding, maps, region)
        # What is remembered is the steadier place, what is told the sharper one: it would drift if fed back.
        sharp = sharpen(xy, embedding, self._seen)
        return CarriedPoints(torch.where(found[:, None], sharp, self._xy), confidence * found)

    def read(self, carried: CarriedPoints, image: np.ndarray) -> tuple[Keypoints, Confidence]:
        """Cells to pixels of the frame."""
        assert self._latest is not None
        frame = (image.shape[0], image.shape[1])
        size = working_size(*frame, self.settings.size)
        xy = rescale_points(cell_to_pixel(carried.xy, self.stride), size, frame)
        shape = self._latest.xy.shape[:2]
        confidence = carried.confidence.reshape(shape).cpu().numpy().astype(np.float32)
        known = np.isfinite(carried.xy.cpu().numpy()).all(axis=-1).reshape(shape)  # by one pass at least
        points = replace(
            self._latest,
            xy=xy.reshape(*shape, 2).cpu().numpy().astype(np.float32),
            visible=(confidence >= VISIBLE) & known,
            confidence=np.where(known, confidence, 0).astype(np.float32),
        )
        return points, _of_instances(points)

    def fuse(self, earlier: CarriedPoints, later: CarriedPoints, share: float) -> CarriedPoints:
        """Per point the mean place of both where they agree, else the better of the two.

        Each counts by the cube of its nearness in time, times its confidence: halfway between two places
        that differ there is nothing. A point that only one annotation has follows that one. Where both agree,
        the surer one says how sure that is, else the one that was followed.
        """
        weights = torch.stack([_weight(earlier, 1 - share), _weight(later, share)])  # [2, N]
        agree = (earlier.xy - later.xy).norm(dim=-1) <= AGREE  # False where one is nan
        better = weights == weights.amax(dim=0)
        weights = torch.where(agree | better, weights, torch.zeros_like(weights))
        weights = weights / weights.sum(dim=0).clamp(min=1e-9)
        first, second = weights[..., None]
        places = earlier.xy.nan_to_num(), later.xy.nan_to_num()
        xy = first * places[0] + second * places[1]
        nowhere = (first + second == 0).expand_as(xy)
        own = weights[0] * earlier.confidence + weights[1] * later.confidence  # of the place that was taken
        confidence = torch.where(agree, torch.maximum(earlier.confidence, later.confidence), own)
        return CarriedPoints(xy.masked_fill(nowhere, torch.nan), confidence)

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


def _weight(carried: CarriedPoints, near: float) -> Tensor:
    """What a pass counts in `PointCarrier.fuse`, `[N]`: 0 for points that it never knew."""
    known = torch.isfinite(carried.xy).all(dim=-1)
    return torch.where(known, near**3 * (carried.confidence + 1e-3), torch.zeros_like(carried.confidence))


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
    return drop_faint(torch.exp(-squared / (2 * SPREAD**2)).nan_to_num(0).float())


def peaks(maps: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Where the heat maps peak.

    Args:
        maps: float32 `[h, w, N]`.
        before: where the points were in the frame before, cell coordinates `[N, 2]`.

    Returns:
        Cell coordinates float32 `[N, 2]`, the mean place of the heat around the strongest 3x3 cells, places
        near `before` preferred; and the heat of these 3x3 cells `[N]`.
    """
    height, width = maps.shape[:2]
    heat = maps.permute(2, 0, 1)  # [N, h, w]
    rows, columns = (torch.arange(n, device=maps.device, dtype=torch.float32) for n in (height, width))
    far_y = ((rows - before[:, 1:]) / STEADY) ** 2  # [N, h]
    far_x = ((columns - before[:, :1]) / STEADY) ** 2  # [N, w]
    far = far_y[:, :, None] + far_x[:, None]  # [N, h, w]
    # In proportion to the nearest place with heat: far from all of it every weight would vanish.
    nearest = far.masked_fill(heat == 0, torch.inf).amin(dim=(1, 2), keepdim=True)
    weighed = heat * torch.exp((nearest - far) / 2).nan_to_num(0, posinf=0)
    strongest = F.avg_pool2d(weighed[None], 3, stride=1, padding=1)[0].flatten(1).argmax(dim=1)  # [N]
    y, x = strongest // width, strongest % width
    near_y, near_x = (rows - y[:, None]).abs(), (columns - x[:, None]).abs()  # [N, h], [N, w]
    local = weighed * (near_y <= NEAR)[:, :, None] * (near_x <= NEAR)[:, None]
    total = local.sum(dim=(1, 2)).clamp(min=1e-9)
    center_x = (local.sum(dim=1) * columns).sum(dim=1) / total
    center_y = (local.sum(dim=2) * rows).sum(dim=1) / total
    mass = (heat * (near_y <= 1)[:, :, None] * (near_x <= 1)[:, None]).sum(dim=(1, 2))
    return torch.stack([center_x, center_y], dim=-1), mass


def sample(embedding: Tensor, xy: Tensor) -> Tensor:
    """Descriptors at exact places, bilinear between the cells.

    Args:
        embedding: unit vectors `[h, w, C]`.
        xy: cell coordinates `[..., 2]`.

    Returns:
        Unit vectors float32 `[..., C]`; nan where `xy` is nan.
    """
    height, width, channels = embedding.shape
    scale = torch.tensor([width, height], device=xy.device)
    grid = ((xy + 0.5) / scale * 2 - 1).reshape(1, 1, -1, 2)
    maps = embedding.float().permute(2, 0, 1)[None]  # [1, C, h, w]
    found = F.grid_sample(maps, grid.nan_to_num(0), padding_mode="border", align_corners=False)
    found = F.normalize(found[0, :, 0].T, dim=-1).view(*xy.shape[:-1], channels)
    return torch.where(xy.isnan().any(dim=-1, keepdim=True), torch.nan, found)


def sharpen(xy: Tensor, embedding: Tensor, seen: Tensor) -> Tensor:
    """Move places by at most a cell to where the frame looks most like the annotated point.

    A soft-argmax over a grid of quarter cells around each place, with a preference for small moves.

    Args:
        xy: cell coordinates `[N, 2]`.
        embedding: unit vectors `[h, w, C]` of the frame.
        seen: descriptor of each point in its annotation `[N, C]`.
    """
    fine = torch.arange(-FINE, FINE + 1, device=xy.device) / FINE
    moves = torch.stack(torch.meshgrid(fine, fine, indexing="xy"), dim=-1).view(-1, 2)  # [M, 2]
    scores = (sample(embedding, xy[:, None] + moves) * seen[:, None]).sum(dim=-1) / TEMPERATURE  # [N, M]
    weight = (scores - moves.square().sum(dim=-1) / (2 * MOVE**2)).softmax(dim=1)
    return xy + weight @ moves


def _has_mass(maps: Tensor) -> Tensor:
    return (maps > 0).any(dim=-1)


def _of_instances(points: Keypoints) -> Confidence:
    """The mean confidence of each instance's points."""
    known = points.labelled
    return {
        name: float(points.confidence[i][known[i]].mean())
        for i, name in enumerate(points.instances)
        if known[i].any()
    }

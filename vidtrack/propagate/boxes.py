"""Boxes: each is a filled mask on its way, and the tight box around that mask again in every frame."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrack.geometry import cells, to_pixels, working_size
from vidtrack.labels.boxes import Boxes
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.fusion import decidedness, mean
from vidtrack.propagate.masks import FINE, of_labels
from vidtrack.propagate.propagator import Carried, Propagator, drop_faint
from vidtrack.propagate.settings import Propagation

INSIDE = 0.5  # of the most that any label of an object had where it was annotated: such pixels are in its box


class BoxCarrier(Carrier[Boxes, Carried]):
    """Carries boxes. They may overlap: every object has a channel of its own, channel 0 is where none is.

    Args:
        settings: see `Propagation`.
        stride: working pixels per cell.
        objects: ids that are known from the start, in the order of the channels.

    Attributes:
        fine: labels per cell along rows and columns, as of `MaskCarrier`.
    """

    def __init__(self, settings: Propagation, stride: int, objects: Iterable[int] = ()) -> None:
        self.settings, self.stride = settings, stride
        self._known = list(objects)
        self.objects = list(objects)
        self._behind: frozenset[int] = frozenset()  # the objects that the annotation behind has
        self.fine = FINE if stride % FINE == 0 else 1
        self._most: dict[int, float] = {}  # of each object's labels in the annotation: tiny ones fill no cell
        self._propagator = Propagator(settings, finish=drop_faint, fine=self.fine)

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Boxes) -> None:
        """A box without place (nan) is not in the frame."""
        self.objects = [*self._known, *(number for number in labels.ids if number not in self._known)]
        self._behind = _there(labels)
        maps = self._cells(labels, frame, embedding, self._behind)
        self._most = self._measured(maps)
        self._propagator.annotate(index, embedding, maps)

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Boxes) -> None:
        """Boxes of objects that the annotation behind lacks do not count: they appear with theirs."""
        self._propagator.look_ahead(index, embedding, self._cells(labels, frame, embedding, self._behind))
        later = self._measured(self._cells(labels, frame, embedding, _there(labels)))
        # Joined with a pass from there, such an object is read by this carrier.
        self._most |= {number: most for number, most in later.items() if not self._most.get(number)}

    def _measured(self, maps: Tensor) -> dict[int, float]:
        """The most that a place has of each object's label."""
        most = maps[..., 1:].amax(dim=(0, 1)) if self.objects else maps.new_zeros(0)
        return dict(zip(self.objects, most.tolist(), strict=True))

    def _cells(
        self, boxes: Boxes, frame: tuple[int, int], embedding: Tensor, among: frozenset[int]
    ) -> Tensor:
        """How much of each place each box of `among` covers, `[fine * h, fine * w, 1 + objects]`."""
        size, stride = working_size(*frame, self.settings.size), self.stride / self.fine
        grid = [self.fine * n for n in embedding.shape[:2]]
        maps = torch.zeros(1 + len(self.objects), *grid)
        for number, box, there in zip(boxes.ids, boxes.xyxy.tolist(), boxes.labelled, strict=True):
            if there and number in among and number in self.objects:
                down, across = (
                    _cover(box[first], box[first + 2], frame[axis], size[axis] / stride, grid[axis])
                    for axis, first in ((0, 1), (1, 0))
                )
                maps[1 + self.objects.index(number)] = down[:, None] * across
        maps[0] = 1 - maps[1:].amax(dim=0) if self.objects else 1
        return maps.permute(1, 2, 0).contiguous().to(embedding.device)

    def region(self, later: int = 0) -> Tensor | None:
        """See `Propagator.region`."""
        return self._propagator.region(later)

    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> Carried:
        """See `Propagator.step`."""
        return self._propagator.step(index, embedding, region)

    def read(self, carried: Carried, image: np.ndarray) -> tuple[Boxes, Confidence]:
        """The tight box around the largest part of each object."""
        frame = (image.shape[0], image.shape[1])
        size = working_size(*frame, self.settings.size)
        stride = self.stride // self.fine
        inside = carried.labels[: cells(size[0], stride), : cells(size[1], stride), 1:]
        maps = to_pixels(inside.permute(2, 0, 1).contiguous(), size, stride, size)
        scale = np.array([frame[1] / size[1], frame[0] / size[0]] * 2, np.float32)
        xyxy = np.full((len(self.objects), 4), np.nan, np.float32)
        confidence = np.zeros(len(self.objects), np.float32)
        for number, map_ in enumerate(maps.cpu().numpy()):
            most = self._most.get(self.objects[number], 0) or 1
            part = _largest_part(map_ >= INSIDE * most)
            if part is not None:
                x, y, width, height = cv2.boundingRect(part)
                xyxy[number] = np.array([x, y, x + width, y + height], np.float32) * scale
                confidence[number] = min(1, float(map_[part > 0].mean()) / most)
        boxes = Boxes(tuple(self.objects), xyxy, confidence)
        return boxes, {n: float(c) for n, c in zip(self.objects, confidence, strict=True) if c > 0}

    def fuse(self, earlier: Carried, later: Carried, share: float) -> Carried:
        """The mean of both, weighted by nearness in time, recognition per cell, and decidedness per box."""
        first, second = ((1 - share) * _trust(earlier), share * _trust(later))
        return mean(earlier, later, first, second)

    def pack(self, carried: Carried) -> dict[str, np.ndarray]:
        """Half precision."""
        return {
            "labels": carried.labels.half().cpu().numpy(),
            "similarity": carried.similarity.half().cpu().numpy(),
        }

    def unpack(self, arrays: dict[str, np.ndarray]) -> Carried:
        """Inverse of `pack`."""
        labels, similarity = (torch.from_numpy(arrays[key]).float() for key in ("labels", "similarity"))
        return Carried(labels, similarity)

    def empty(self, frame: tuple[int, int]) -> Boxes:
        """No box."""
        return Boxes((), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    def given(self, labels: Boxes) -> Confidence:
        """1 for each box that is there."""
        return {n: 1.0 for n, there in zip(labels.ids, labels.labelled, strict=True) if there}


def _there(boxes: Boxes) -> frozenset[int]:
    return frozenset(number for number, there in zip(boxes.ids, boxes.labelled, strict=True) if there)


def _cover(begin: float, end: float, length: int, places: float, grid: int) -> Tensor:
    """How much of each place along one axis lies between two edges, 0..1 `[grid]`.

    Args:
        begin, end: in pixels. What reaches the edge of the frame fills the padding behind it, too.
        length: of the frame, in pixels.
        places: how many of them the frame has, without its padding.
        grid: how many there are.
    """
    place = torch.arange(grid, dtype=torch.float32)
    first = begin * places / length if begin > 0 else 0.0
    last = end * places / length if end < length else float(grid)
    return (torch.clamp(place + 1, max=last) - torch.clamp(place, min=first)).clamp(0, 1)


def _largest_part(inside: np.ndarray) -> np.ndarray | None:
    """The largest connected part of a mask, uint8; None if it is empty."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    if count < 2:
        return None
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _trust(carried: Carried) -> Tensor:
    """How well a place is recognised, times the decidedness of each object, both squared: `[h, w, K]`."""
    recognised = of_labels(carried.similarity, carried.labels).clamp(min=0).square() + 1e-3
    return recognised[..., None] * decidedness(carried.labels).square()

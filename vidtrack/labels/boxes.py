"""Boxes: one axis-aligned rectangle for each object of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(eq=False)
class Boxes:
    """The boxes of one frame.

    Attributes:
        ids: numbers of the N objects, from 1, no two the same.
        xyxy: float32 `[N, 4]`, the edges left, top, right, bottom in pixels, where pixel i covers i to i+1
            (as in COCO, MOTChallenge and VOT): a box over the pixels 3, 4, 5 goes from 3 to 6. nan where
            the object is lost.
        confidence: float32 `[N]`, 0..1; 1 for annotations.
    """

    ids: tuple[int, ...]
    xyxy: np.ndarray
    confidence: np.ndarray

    def __post_init__(self) -> None:
        """Check shapes, types and ids here, so that nothing downstream needs to."""
        count = len(self.ids)
        if self.xyxy.shape != (count, 4) or self.xyxy.dtype != np.float32:
            raise ValueError(f"xyxy must be float32 [{count}, 4], not {self.xyxy.dtype} {[*self.xyxy.shape]}")
        if self.confidence.shape != (count,) or self.confidence.dtype != np.float32:
            raise ValueError(
                f"confidence must be float32 [{count}], not {self.confidence.dtype}"
                f" {[*self.confidence.shape]}"
            )
        if len(set(self.ids)) != count or any(i < 1 for i in self.ids):
            raise ValueError(f"ids must be numbers from 1, no two the same, not {self.ids}")

    @property
    def labelled(self) -> np.ndarray:
        """bool `[N]`: the object has a box."""
        return np.asarray(np.isfinite(self.xyxy).all(axis=1))

    @property
    def centers(self) -> np.ndarray:
        """float32 `[N, 4]`: the edges where pixel centres are at integers, as those of points are."""
        return self.xyxy - np.float32(0.5)

    @classmethod
    def from_xyxy(cls, boxes: Sequence[tuple[float, float, float, float]]) -> Boxes:
        """Objects 1, 2, ... with the edges (left, top, right, bottom), see `xyxy`."""
        xyxy = np.asarray(boxes, np.float32).reshape(len(boxes), 4)
        confidence = np.asarray(np.isfinite(xyxy).all(axis=1)).astype(np.float32)
        return cls(tuple(range(1, len(boxes) + 1)), xyxy, confidence)

    @classmethod
    def load(cls, path: Path | str) -> dict[int, Boxes]:
        """Read the boxes of a file (`boxfiles`); the content decides about the format.

        CSV of MOTChallenge without a header, or CSV with a header and either two or four corners.

        Returns:
            Frame number, from 0 -> its boxes, in ascending order; each frame has the objects that the file
            names there.

        Raises:
            InputError: no such file, not boxes, a damaged line.
        """
        from vidtrack.labels.boxfiles import read_boxes

        return read_boxes(Path(path))

"""Points collected one by one, in any order, into the keypoints of each frame."""

from __future__ import annotations

import numpy as np

from pretrain.errors import InputError
from vidtrack.labels.keypoints import Keypoints

_MOST = 1 << 25  # points of all frames together: more is a file in which every row has a new name


class PointTable:
    """What a file says, point by point; names and instances are ordered by first appearance."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._frames: dict[int, dict[tuple[int, int], tuple[float, float, bool, float]]] = {}
        self._names: dict[str, int] = {}
        self._instances: dict[str, int] = {}

    def add_name(self, name: str) -> None:
        """Have a keypoint `name` in the result, even without a point."""
        self._names.setdefault(name, len(self._names))

    def add(
        self,
        frame: int,
        instance: str,
        name: str,
        point: tuple[float, float],
        visible: bool,
        confidence: float,
        where: str,
    ) -> None:
        """Add a point; `where` is its place in the file, for messages.

        Args:
            frame: its number, from 0.
            instance: name of the instance.
            name: of the keypoint.
            point: pixels (x, y), both nan where the file has none.
            visible: seen, not occluded.
            confidence: 0..1.
            where: the place in the file.

        Raises:
            InputError: the point is there already, has one coordinate only, or a confidence outside 0..1.
        """
        self.add_name(name)
        place = (self._instances.setdefault(instance, len(self._instances)), self._names[name])
        points = self._frames.setdefault(frame, {})
        if place in points:
            raise InputError(
                f"{where}: keypoint {name!r} of instance {instance!r} is in frame {frame} twice: remove one."
            )
        labelled = ~np.isnan(point)
        if labelled.any() != labelled.all():
            raise InputError(f"{where} has only one of x and y: give both, or leave both blank.")
        if not 0 <= confidence <= 1:
            raise InputError(f"{where}: the confidence is {confidence:g}: write a number from 0 to 1.")
        points[place] = (*point, bool(visible and labelled.all()), confidence)

    def result(self, skeleton: tuple[tuple[int, int], ...] = ()) -> dict[int, Keypoints]:
        """Frame number -> keypoints, ascending; points that were not added are nan, with confidence 0.

        Raises:
            InputError: an absurd number of frames, instances and names.
        """
        shape = (len(self._instances), len(self._names))
        if len(self._frames) * shape[0] * shape[1] > _MOST:
            raise InputError(
                f"{self._where} has {shape[0]} instances of {shape[1]} keypoints in {len(self._frames)}"
                " frames: use the same names in all frames."
            )
        return {frame: self._keypoints(frame, shape, skeleton) for frame in sorted(self._frames)}

    def _keypoints(
        self, frame: int, shape: tuple[int, int], skeleton: tuple[tuple[int, int], ...]
    ) -> Keypoints:
        xy = np.full((*shape, 2), np.nan, np.float32)
        visible, confidence = np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
        for place, (x, y, seen, sure) in self._frames[frame].items():
            xy[place] = x, y
            visible[place] = seen
            confidence[place] = sure
        return Keypoints(xy, visible, confidence, tuple(self._names), tuple(self._instances), skeleton)

"""Keypoints: named points of one or several instances, read from and written to the files of other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(eq=False)
class Keypoints:
    """The keypoints of one frame: I instances with the same P named points.

    Attributes:
        xy: float32 `[I, P, 2]`, pixels (x, y) with pixel centres at integers; nan where a point isn't
            annotated. A tracker gives points that it has lost their last place, and the confidence 0.
        visible: bool `[I, P]`: seen (True) or occluded (False); an occluded point may have coordinates.
            Says nothing where `xy` is nan; the readers give False there.
        confidence: float32 `[I, P]`, 0..1; 1 for annotations.
        names: of the P keypoints, no two the same.
        instances: names of the I instances, no two the same: "0", "1", ... or DeepLabCut's individuals.
        skeleton: pairs of keypoint indices to draw as lines, and to write to COCO.
    """

    xy: np.ndarray
    visible: np.ndarray
    confidence: np.ndarray
    names: tuple[str, ...]
    instances: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Check shapes, types and names here, so that nothing downstream needs to."""
        shape = (len(self.instances), len(self.names))
        if self.xy.shape != (*shape, 2) or self.xy.dtype != np.float32:
            raise ValueError(f"xy must be float32 {[*shape, 2]}, not {self.xy.dtype} {list(self.xy.shape)}")
        for name, array, dtype in (
            ("visible", self.visible, "bool"),
            ("confidence", self.confidence, "float32"),
        ):
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise ValueError(
                    f"{name} must be {dtype} {list(shape)}, not {array.dtype} {list(array.shape)}"
                )
        for what, values in (("names", self.names), ("instances", self.instances)):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must differ from each other: {values}")
        if not all(0 <= end < shape[1] for pair in self.skeleton for end in pair):
            raise ValueError(f"skeleton must hold pairs of indices below {shape[1]}, not {self.skeleton}")

    @property
    def labelled(self) -> np.ndarray:
        """bool `[I, P]`: the point has coordinates."""
        return np.asarray(np.isfinite(self.xy).all(axis=2))

    @classmethod
    def from_points(
        cls,
        points: Sequence[tuple[float, float]],
        names: Sequence[str] | None = None,
        skeleton: tuple[tuple[int, int], ...] = (),
    ) -> Keypoints:
        """One instance, "0", whose points are all visible.

        Args:
            points: pixels (x, y); nan for a point without a place.
            names: one for each point; without them "point0", "point1", ...
            skeleton: pairs of indices of points.
        """
        xy = np.asarray(points, np.float32).reshape(1, len(points), 2)
        labelled = np.asarray(np.isfinite(xy).all(axis=2))
        given = tuple(names) if names is not None else tuple(f"point{i}" for i in range(len(points)))
        return cls(xy, labelled, labelled.astype(np.float32), given, ("0",), skeleton)

    @classmethod
    def load(
        cls,
        path: Path | str,
        pictures: Mapping[str, int] | None = None,
        size: tuple[int, int] | None = None,
    ) -> dict[int, Keypoints]:
        """Read the keypoints of a file; the content decides about the format, never the extension.

        CSV of vidtrack (`keypointfiles`), COCO keypoints JSON (`cocokeypoints`), CSV or H5 of DeepLabCut
        (`deeplabcut`). All frames of a file have the same names and instances, with nan for what a frame
        doesn't have.

        Args:
            path: of the file.
            pictures: frame number by the name of each picture, without suffix, of a video that is a folder
                of pictures: images that a file names so are these frames; others have the number in their
                name.
            size: `(height, width)` of the video, if the file must be of images of that size where it says
                one, as COCO does.

        Returns:
            Frame number, from 0 -> its keypoints, in ascending order.

        Raises:
            InputError: no such file, not keypoints, a damaged line or entry, images of another size.
        """
        from vidtrack.labels.keypointfiles import read_keypoints

        return read_keypoints(Path(path), pictures, size)


def same_layout(frames: Iterable[tuple[int, str, Keypoints]]) -> Iterator[tuple[int, str, Keypoints]]:
    """The frames as they come, each checked: a file has the same keypoints and instances in all of them.

    Args:
        frames: frame number, name and keypoints.

    Raises:
        ValueError: a frame whose names or instances differ from those of the first, or no frame at all.
    """
    first: Keypoints | None = None
    for index, name, keypoints in frames:
        first = first or keypoints
        if (keypoints.names, keypoints.instances) != (first.names, first.instances):
            raise ValueError(f"frame {index} has other keypoints or instances than the first frame")
        yield index, name, keypoints
    if first is None:
        raise ValueError("there are no frames to write")

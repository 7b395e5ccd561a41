"""Tracking any point: the TAP-Vid benchmark (Doersch et al. 2022, arXiv 2211.03726) as a task.

Files: see `tapvid_files.py`. Measures: see `point_metrics.py`. The protocol is that of the authors'
repository (google-deepmind/tapnet):

- Frames are resized to 256x256 with a Lanczos filter, whatever their aspect; a tracker that is given frames
  of another size (`size`) is a category of its own, says its README.
- Queries "first": each point is given where it is first visible, and tracked forward. Queries "strided": each
  point is given in each of the frames 0, 5, 10, ... in which it is visible, and tracked from there both ways;
  each such query counts as a track.
- Distances are those on a raster of 256x256, whatever the tracker was given.
- A score of the set is the mean of the scores of its videos. Points that are never given are left out.

One thing differs: a video of which nothing is scored has no score here, and the mean is over the others;
there it is nan. No published set has such a video.

All queries of a frame are given together, as the keypoints of one run.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.point_metrics import (
    MODES,
    RASTER,
    THRESHOLDS,
    evaluated_frames,
    tapvid_metrics,
    within_by_frame,
)
from vidtrack.benchmark.predictions import folder_of, read_keypoints
from vidtrack.benchmark.tapvid_files import PointSequence, read_sequences
from vidtrack.benchmark.task import Item, Record, Run
from vidtrack.labels.keypoints import Keypoints
from vidtrack.video.images import save_png

STRIDE = 5  # frames between those with strided queries
SMALLEST = 16  # pixels: less is no picture of anything

# The task's keys, by the names of the official tool.
OFFICIAL = {
    "average_jaccard": "AJ",
    "average_pts_within_thresh": "delta-avg",
    "occlusion_accuracy": "OA",
    **{f"jaccard_{threshold}": f"J-{threshold}" for threshold in THRESHOLDS},
    **{f"pts_within_{threshold}": f"delta-{threshold}" for threshold in THRESHOLDS},
}


class TapVidSet:
    """The data sets of TAP-Vid, RoboTAP, and others in their layouts."""

    @staticmethod
    def find(data: Path | str, queries: str = "first", size: int | None = 256) -> TapVidTask:
        """Read and check a set, and make a task of it.

        Args:
            data: a pickle or npz file, or a folder of them, see `tapvid_files.py`.
            queries: "first" or "strided".
            size: frames are resized to `size` x `size` pixels; 256 is the official size, None keeps that of
                the video.

        Raises:
            InputError: Unknown queries, an impossible size, unusable data, or a sequence without a query.
        """
        data = Path(data)
        if queries not in MODES:
            raise InputError(f"There are no queries {queries!r}: choose {' or '.join(MODES)}.")
        if size is not None and size < SMALLEST:
            raise InputError(
                f"The size {size} is too small: give at least {SMALLEST} pixels, official is 256."
            )
        items = [TapVidItem(sequence, queries, size) for sequence in read_sequences(data)]
        return TapVidTask(data, queries, size, items)


@dataclass(eq=False)
class TapVidItem:
    """One video with its queries: Q queries, N points, T frames.

    Attributes:
        sequence: the video and its true tracks.
        queries: "first" or "strided".
        size: side in pixels of the frames that a tracker sees; None: as they are.
        name: of the sequence.
        frames: T.
        points: index of the point of each query, int `[Q]`.
        query_frames: the frame in which it is given, int `[Q]`, ascending.
        names: of the queries as keypoints: `point3`, or `point3@10` where a point is given several times.

    Raises:
        InputError: There is no query.
    """

    sequence: PointSequence
    queries: str
    size: int | None
    name: str = field(init=False)
    frames: int = field(init=False)
    points: NDArray[np.intp] = field(init=False)
    query_frames: NDArray[np.intp] = field(init=False)
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.frames = self.sequence.name, self.sequence.frames
        self.points, self.query_frames = sample_queries(self.sequence.occluded, self.queries)
        if not self.points.size:
            where = (
                "any frame"
                if self.queries == "first"
                else f"any of the frames 0, {STRIDE}, {2 * STRIDE}, ..."
            )
            raise InputError(
                f"{self.sequence.file}, sequence {self.name}, shows no point in {where}: nothing is given."
            )
        given = zip(self.points, self.query_frames, strict=True)
        self.names = tuple(f"point{n}" if self.queries == "first" else f"point{n}@{t}" for n, t in given)

    @property
    def frame_size(self) -> tuple[int, int]:
        """`(height, width)` of the frames that a tracker sees."""
        return self.sequence.size if self.size is None else (self.size, self.size)

    def fingerprint(self) -> str:
        """See `Item`."""
        return hashlib.sha256(f"{self.sequence.sha256} {self.queries} {self.size}".encode()).hexdigest()

    @contextmanager
    def video(self) -> Iterator[Path]:
        """The frames as PNG in a temporary folder: 00000.png, 00001.png, ..."""
        with tempfile.TemporaryDirectory(prefix="vidtrack-") as folder:
            for index, image in enumerate(self.sequence.images()):
                save_png(Path(folder) / f"{index:05d}.png", self._resized(image))
            yield Path(folder)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """See `Item`; a picture of its own, which may be drawn on."""
        return self._resized(self.sequence.image(index))

    def runs(self) -> Sequence[Run]:
        """One run for each frame that has queries."""
        xy = to_pixels(self.sequence.points[self.points, self.query_frames], self.frame_size)  # [Q, 2]
        frames = [int(frame) for frame in np.unique(self.query_frames)]
        runs = []
        for frame in frames:
            among = np.flatnonzero(self.query_frames == frame)
            given = Keypoints.from_points(xy[among].tolist(), [self.names[q] for q in among])
            name = f"q{frame:05d}" if len(frames) > 1 else ""
            if self.queries == "first":
                runs.append(Run(name, {frame: given}, start=frame))
            else:
                runs.append(Run(name, {frame: given}, direction="both"))
        return runs

    def score(self, folder: Path) -> Record:
        """Scores of the predicted keypoints by the task's keys, 0..1.

        `detail` counts queries, points (visible and evaluated) and lost ones among them; `series` is the
        share of visible points within the thresholds (delta-avg) in each frame.
        """
        truth = self.sequence.points[self.points] * RASTER
        occluded = self.sequence.occluded[self.points]
        xy, visible = self._predictions(folder)
        found = to_raster(xy, self.frame_size)
        scores = tapvid_metrics(self.query_frames, truth, occluded, found, ~visible, self.queries)
        scored = ~occluded & evaluated_frames(self.query_frames, self.frames, self.queries)
        return {
            "scores": {key: _json(scores[official]) for official, key in OFFICIAL.items()},
            "detail": {
                "queries": len(self.points),
                "points": int(scored.sum()),
                "lost": int((scored & np.isnan(xy).any(-1)).sum()),
            },
            "series": {"all": within_by_frame(self.query_frames, truth, occluded, found, self.queries)},
        }

    def truth(self, index: int) -> Keypoints:
        """The true place of each query in a frame; nan where it is occluded, since that is not annotated."""
        xy = to_pixels(self.sequence.points[self.points, index], self.frame_size)
        return self._keypoints(xy, ~self.sequence.occluded[self.points, index])

    def predicted(self, folder: Path, index: int) -> Keypoints:
        """The predicted place of each query in a frame; nan where it is lost, or not tracked to."""
        xy, visible = self._predictions(folder)
        points = self._keypoints(xy[:, index], ~np.isnan(xy[:, index, 0]))
        points.visible[0] &= visible[:, index]
        return points

    def _keypoints(self, xy: NDArray[np.float64], known: NDArray[np.bool_]) -> Keypoints:
        return Keypoints.from_points(np.where(known[:, None], xy, np.nan).tolist(), self.names)

    def _predictions(self, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Predicted places `[Q, T, 2]` in pixels of the frames, nan where there is none, and visibility."""
        xy = np.full((len(self.points), self.frames, 2), np.nan)
        visible = np.zeros(xy.shape[:2], np.bool_)
        for run in self.runs():
            where = folder_of(folder, run)
            asked = [self.names.index(name) for name in next(iter(run.annotations.values())).names]
            queries = {self.names[query]: query for query in asked}
            for frame, points in read_keypoints(where).items():
                unknown = [name for name in points.names if name not in queries]
                if unknown or len(points.instances) != 1:
                    what = f"the keypoint {unknown[0]}" if unknown else f"{len(points.instances)} instances"
                    raise InputError(
                        f"{where} has {what}, but asked was for one of {', '.join(list(queries)[:3])}"
                        f"{', ...' if len(queries) > 3 else ''}: give the keypoints of this benchmark."
                    )
                if frame >= self.frames:
                    raise InputError(
                        f"{where} has a frame {frame}, but {self.name} has {self.frames} frames."
                    )
                rows = [queries[name] for name in points.names]
                xy[rows, frame], visible[rows, frame] = points.xy[0], points.visible[0]
        return xy, visible

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.frame_size
        if image.shape[:2] == (height, width):
            return np.array(image)  # one that may be drawn on
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


@dataclass(eq=False)
class TapVidTask:
    """A set with its queries, see `TapVidSet.find`.

    The keys: "AJ" (average Jaccard), "delta-avg" (share of visible points within the thresholds, averaged),
    "OA" (occlusion accuracy), and for each threshold of 1, 2, 4, 8, 16 pixels "J-1" ... (Jaccard) and
    "delta-1" ... (share within), see `point_metrics.tapvid_metrics`. All are fractions 0..1; the paper gives
    percent.
    """

    data: Path
    queries: str
    size: int | None
    items: Sequence[Item]
    benchmark: str = field(init=False, default="points")
    keys: tuple[str, ...] = field(init=False, default=tuple(OFFICIAL.values()))
    lower: tuple[str, ...] = field(init=False, default=())
    title: str = field(init=False)
    protocol: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        name = re.sub(r"(?i)^tap[-_]?vid[-_]?", "", self.data.absolute().stem)
        size = {None: ", own size", RASTER: ""}.get(self.size, f", {self.size}x{self.size}")
        self.title = f"TAP-Vid {name}, queries {self.queries}{size}".replace("  ", " ")
        self.protocol = {
            "queries": self.queries,
            "stride": STRIDE if self.queries == "strided" else None,
            "size": self.size,
            "raster": RASTER,
            "thresholds": list(THRESHOLDS),
        }

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        """Each key's mean over the videos that have it; None if none has."""
        means: dict[str, float | None] = {}
        for key in self.keys:
            values = [record["scores"][key] for record in records.values()]
            known = [value for value in values if value is not None]
            means[key] = float(np.mean(known)) if known else None
        return means


def sample_queries(occluded: NDArray[np.bool_], mode: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which points are given in which frames.

    Args:
        occluded: bool `[N, T]`.
        mode: "first": each point where it is first visible. "strided": each point in each of the frames 0, 5,
            10, ... in which it is visible.

    Returns:
        Index of the point and number of the frame of each query, `[Q]` each, by frame, then by point.
    """
    visible = ~occluded
    if mode == "first":
        points = np.flatnonzero(visible.any(1))
        frames = visible[points].argmax(1)
        order = np.argsort(frames, kind="stable")
        return points[order], frames[order]
    step, points = np.nonzero(visible[:, ::STRIDE].T)
    return points, step * STRIDE


# These two are not in geometry.py, which imports torch: processes that only score should stay small.
def to_pixels(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Fractions of the frame `[..., 2]` to pixels (x, y) of a frame of `size` (height, width).

    The fraction 0 is the border of the frame, half a pixel before the centre of its first pixel, which is at
    0 here.
    """
    return points * (size[1], size[0]) - 0.5


def to_raster(xy: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Pixels (x, y) of a frame of `size` (height, width) to the raster in which distances are measured."""
    return (xy + 0.5) * (RASTER / size[1], RASTER / size[0])


def _json(score: float) -> float | None:
    return None if math.isnan(score) else score

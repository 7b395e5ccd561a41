"""JHMDB (Jhuang et al., "Towards Understanding Action Recognition", ICCV 2013): 15 joints of a person.

    ROOT/joint_positions/<action>/<video>/joint_positions.mat      pos_img [2, 15, T], pixels from 1
    ROOT/Rename_Images/<action>/<video>/00001.png ...
    ROOT/splits/<action>_test_split1.txt                           lines "<video>.avi 1" or 2: 2 is tested

The joints of the first frame are given; the figures are the videos of split 1. Published ones on label
propagation come from videowalk's `code/eval/eval_pck.py` (Jabri et al. 2020, arXiv 2006.14613; its evaluation
goes back to Wang et al. 2019, arXiv 1903.07593), whose rules are kept:

- 1 is taken from the coordinates, because MATLAB counts pixels from 1.
- A distance is divided by 0.6 times the diagonal of the box round the true joints of that frame; up to alpha
  it is correct.
- The score is the mean over joints of each joint's share of correct places, not over places.
- Frame 0 is not scored. Joints that lie outside of the frame are given, scored and part of the box like all
  others; pictures after the last annotated frame don't count.

They differ in what happens to joints that a tracker has lost:

- `jhmdb`: they are wrong, and the box is that of all 15 joints.
- `jhmdb-videowalk`: as the published figures were made, a joint counts only where its predicted x is 0 or
  more, in the score and in the box. Losing joints can therefore raise the score.

videowalk squeezes frames to 320x320, and scales its places up from 40x40 cells without half a cell. Here
trackers see the frames as they are and answer in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.benchmark.davis import require_names
from vidtrack.benchmark.layout import FrameFolder, OfFolder, open_frames
from vidtrack.benchmark.matfile import Damaged, read_array
from vidtrack.benchmark.pose import checked_keypoints
from vidtrack.benchmark.predictions import read_keypoints
from vidtrack.benchmark.task import Item, Record, Run, Task
from vidtrack.labels.keypoints import Keypoints

PROTOCOLS = ("jhmdb", "jhmdb-videowalk")
ALPHAS = (0.1, 0.2)
SPLIT = 1
JOINTS = (
    *("neck", "belly", "face", "right_shoulder", "left_shoulder", "right_hip", "left_hip"),
    *("right_elbow", "left_elbow", "right_knee", "left_knee"),
    *("right_wrist", "left_wrist", "right_ankle", "left_ankle"),
)
SKELETON = (
    *((0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (3, 7), (4, 8)),
    *((5, 9), (6, 10), (7, 11), (8, 12), (9, 13), (10, 14)),
)
MATLAB_FIRST = 1
PERSON_SIZE = 0.6  # of the diagonal of the box round the joints


def is_jhmdb(data: Path) -> bool:
    """Whether a folder has JHMDB's layout."""
    return (data / "joint_positions").is_dir()


def find_jhmdb(
    data: Path,
    protocol: str = PROTOCOLS[0],
    frames: Path | None = None,
    alphas: Sequence[float] | None = None,
) -> Task:
    """Find and check the tested videos of JHMDB's split 1.

    Args:
        data: ROOT, see the top of this file.
        protocol: one of `PROTOCOLS`.
        frames: folder in place of `Rename_Images`.
        alphas: of the scores, the main one first; None: 0.1 and 0.2.

    Raises:
        InputError: The layout is wrong, or a list, video, frame or annotation is missing or can't be read.
    """
    data = Path(data)
    images = data / "Rename_Images" if frames is None else Path(frames)
    for folder in (data / "joint_positions", data / "splits", images):
        if not folder.is_dir():
            raise InputError(f"{folder} is missing: JHMDB has joint_positions, Rename_Images and splits.")
    lists = sorted((data / "splits").glob(f"*_test_split{SPLIT}.txt"))
    if not lists:
        raise InputError(f"{data / 'splits'} has no list <action>_test_split{SPLIT}.txt.")
    alphas = tuple(ALPHAS if alphas is None else alphas)
    items: list[JhmdbItem] = []
    for file in lists:
        action = file.name.removesuffix(f"_test_split{SPLIT}.txt")
        for video in _tested(file):
            annotation = data / "joint_positions" / action / video / "joint_positions.mat"
            folder = images / action / video
            if not folder.is_dir():
                raise InputError(f"{folder} is missing: {file} names its video.")
            # Different actions may have videos of one name.
            items.append(JhmdbItem(f"{action}-{video}", annotation, open_frames(folder), protocol, alphas))
    if not items:
        raise InputError(f"{data / 'splits'} names no tested video (a line <video>.avi 2).")
    return JhmdbTask(data, protocol, alphas, items)


def read_joints(path: Path) -> NDArray[np.float64]:
    """The joints of a video, float64 `[T, 15, 2]`: x, y in pixels, with pixel centres at integers from 0.

    Raises:
        InputError: The file is missing, is no MATLAB file (version 5), or has no such joints.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: each tested video needs its joints.")
    try:
        joints = read_array(path, "pos_img")
    except (Damaged, OSError) as error:
        raise InputError(f"{path} can't be read as JHMDB's joints: {error}.") from error
    if joints is None:
        raise InputError(f"{path} can't be read as JHMDB's joints: it has no array pos_img.")
    if joints.ndim != 3 or joints.shape[:2] != (2, len(JOINTS)) or not np.isfinite(joints).all():
        shape = "x".join(map(str, joints.shape))
        raise InputError(f"{path} has pos_img of {shape} values: JHMDB's are 2x15xT, all of them numbers.")
    return joints.transpose(2, 1, 0) - MATLAB_FIRST


def normalized_distances(
    truth_xy: NDArray[np.floating], predicted_xy: NDArray[np.floating], lost_left_out: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distances of joints from their true places over the person's size, and which of them are scored.

    Args:
        truth_xy: float `[T, J, 2]` pixels.
        predicted_xy: likewise; nan where a joint is lost.
        lost_left_out: False: all joints are scored. True: those whose predicted x is 0 or more, and the box
            is that of these joints only.

    Returns:
        float64 `[T, J]`: inf or nan, which no alpha reaches, where a joint is lost or its person has no size.
        bool `[T, J]`: False in the first frame.
    """
    truth, predicted = np.asarray(truth_xy, np.float64), np.asarray(predicted_xy, np.float64)
    scored = np.ones(truth.shape[:2], bool)
    if lost_left_out:
        scored = predicted[..., 0] >= 0  # False for nan; videowalk doesn't look at y
    low = np.where(scored[..., None], truth, np.inf).min(axis=1)
    high = np.where(scored[..., None], truth, -np.inf).max(axis=1)
    size = PERSON_SIZE * np.hypot(*(high - low).T)
    scored[0] = False
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.hypot(*np.moveaxis(predicted - truth, -1, 0)) / size[:, None]
    return distance, scored


class JhmdbItem(OfFolder):
    """One video of JHMDB.

    Attributes:
        name, frames: see `Item`; all pictures count as frames.
        xy: true places, float64 `[T, 15, 2]`, see `read_joints`.

    Raises:
        InputError: see `read_joints`; fewer than two annotated frames, or more than pictures.
    """

    def __init__(
        self, name: str, annotation: Path, folder: FrameFolder, protocol: str, alphas: Sequence[float]
    ) -> None:
        super().__init__(folder, (annotation,))
        self.name = name
        self.xy = read_joints(annotation)
        self._alphas = _keys(alphas)
        self._lost_left_out = protocol == "jhmdb-videowalk"
        if not 2 <= len(self.xy) <= self.frames:
            raise InputError(
                f"{annotation} has the joints of {len(self.xy)} frames, but {folder.path} has {self.frames}: "
                "two or more are needed, and a picture for each."
            )

    def runs(self) -> list[Run]:
        """All annotated frames."""
        return [Run("", {0: self.truth(0)}, start=0, end=len(self.xy))]

    def score(self, folder: Path) -> Record:
        """PCK of the video on its own: the mean over joints.

        Returns:
            `detail`: `joints` by name: the number of scored `points` and of `correct` ones by key; `lost`:
            places in frames after the first that have no prediction. `series`: the share of correct joints,
            by the main key.

        Raises:
            InputError: The predictions can't be read, or are of other joints.
        """
        found = checked_keypoints(folder, range(1, len(self.xy)), ("0",), JOINTS)
        predicted = np.full(self.xy.shape, np.nan)
        for number, points in found.items():
            if points.instances:
                predicted[number, [JOINTS.index(name) for name in points.names]] = points.xy[0]
        distance, scored = normalized_distances(self.xy, predicted, self._lost_left_out)
        correct = {key: scored & (distance <= alpha) for key, alpha in self._alphas.items()}
        main = next(iter(correct.values()))
        series = [float(r.sum() / s.sum()) if s.any() else None for r, s in zip(main, scored, strict=True)]
        joints = {
            name: {
                "points": int(scored[:, j].sum()),
                "correct": {key: int(right[:, j].sum()) for key, right in correct.items()},
            }
            for j, name in enumerate(JOINTS)
        }
        return {
            "scores": _mean_over_joints([joints], self._alphas),
            "detail": {"joints": joints, "lost": int(np.isnan(predicted[1:]).any(-1).sum())},
            "series": {"all": series + [None] * (self.frames - len(series))},
        }

    def truth(self, index: int) -> Keypoints | None:
        """The annotation of a frame; None after the last annotated one."""
        if index >= len(self.xy):
            return None
        known = np.ones((1, len(JOINTS)), bool)
        xy = self.xy[None, index].astype(np.float32)
        return Keypoints(xy, known, known.astype(np.float32), JOINTS, ("0",), SKELETON)

    def predicted(self, folder: Path, index: int) -> Keypoints | None:
        """The predicted joints of a frame, if there are any."""
        return read_keypoints(folder).get(index)


@dataclass(eq=False)
class JhmdbTask:
    """JHMDB under one of `PROTOCOLS`, see `Task`."""

    data: Path
    name: str
    alphas: Sequence[float]
    items: Sequence[Item]
    lower: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.benchmark = "pose"
        self.title = f"JHMDB split {SPLIT}" + (" as videowalk scores it" if self.name != "jhmdb" else "")
        self.keys = tuple(_keys(self.alphas))
        left_out = self.name == "jhmdb-videowalk"
        self.protocol: dict[str, Any] = {
            "name": self.name,
            "alphas": list(self.alphas),
            "split": SPLIT,
            "taken_from_coordinates": MATLAB_FIRST,
            "correct_within": "alpha x 0.6 x diagonal of the box round the frame's true joints"
            + (", of those that are predicted" if left_out else ""),
            "given": "frame 0, which is not scored",
            "lost_points": "left out of the score" if left_out else "wrong",
            "mean": "over 15 joints, of each joint's share over all frames of all videos",
        }

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        """PCK over all videos by key: the mean over joints of each joint's share of correct places."""
        return _mean_over_joints([record["detail"]["joints"] for record in records.values()], self.keys)


def _mean_over_joints(
    videos: Sequence[dict[str, dict[str, Any]]], keys: Mapping[str, float] | Sequence[str]
) -> dict[str, float | None]:
    """Mean share of correct places; a joint that is never scored has found none; None without any place."""
    points = [sum(video[name]["points"] for video in videos) for name in JOINTS]
    scores: dict[str, float | None] = {}
    for key in keys:
        correct = [sum(video[name]["correct"][key] for video in videos) for name in JOINTS]
        shares = [right / count if count else 0.0 for right, count in zip(correct, points, strict=True)]
        scores[key] = sum(shares) / len(JOINTS) if any(points) else None
    return scores


def _keys(alphas: Sequence[float]) -> dict[str, float]:
    return {f"PCK@{alpha:g}": alpha for alpha in alphas}


def _tested(path: Path) -> list[str]:
    """The tested videos of a list, in its order."""
    videos: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        name, _, part = line.strip().rpartition(" ")
        if part not in ("0", "1", "2") or not name.strip():
            raise InputError(f"{path}, line {number} is {line.strip()!r}: lines are <video>.avi 1 or 2.")
        video = name.strip().removesuffix(".avi")
        if part == "2":
            if video in videos:
                raise InputError(f"{path}, line {number} names {video} once more: remove one.")
            videos.append(video)
    return require_names(videos, path) if videos else []

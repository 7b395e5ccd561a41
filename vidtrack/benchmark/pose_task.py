"""Keypoints as a benchmark: PCK over the sequences of a folder, or of one file.

    ROOT/Keypoints/<sequence>.csv           or .json, .h5: any file that `Keypoints.load` reads
    ROOT/Keypoints/<sequence>.heads.csv     boxes of heads: the protocol is posetrack
    ROOT/Keypoints/<sequence>.meta.json     names, size of the frames
    ROOT/JPEGImages/<resolution>/<sequence>/00000.jpg ...     unless the frames are elsewhere
    ROOT/joint_positions/<action>/<video>/joint_positions.mat ...      JHMDB, see `jhmdb.py`

The protocols and what they score: `pose.py`. The first annotated frame is given. All scored points of all
sequences weigh the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.jhmdb import PROTOCOLS as JHMDB_PROTOCOLS
from vidtrack.benchmark.jhmdb import find_jhmdb, is_jhmdb
from vidtrack.benchmark.layout import OfFolder, find_frames, frames_of
from vidtrack.benchmark.metrics import correct_points
from vidtrack.benchmark.pose import ALPHA, PoseSet, checked_keypoints, places, silhouettes
from vidtrack.benchmark.predictions import read_keypoints
from vidtrack.benchmark.task import Item, Record, Run, Task
from vidtrack.labels.keypoints import Keypoints

PROTOCOLS = (*ALPHA, *JHMDB_PROTOCOLS)
WITHIN = {
    "badja": "alpha x square root of the area of the silhouette in that frame",
    "posetrack": "alpha x 0.6 x diagonal of the head's box in that frame",
    "frame-diagonal": "alpha x diagonal of the frame",
}
_KINDS = (".csv", ".json", ".h5", ".hdf5")
_BESIDE = (".heads.csv", ".meta.json")  # files beside the keypoints that are none themselves
_BADJA = frozenset(  # the joints of Biggs et al. 2018
    (
        *(f"{end}_{side}_{n}" for end in ("upper", "lower") for side in ("left", "right") for n in (1, 2, 3)),
        *("neck_lower", "tail_0", "tail_3", "tail_6", "jaw", "nose", "left_ear", "right_ear"),
    )
)


def find_pose(
    data: Path, protocol: str | None = None, frames: Path | None = None, alpha: float | None = None
) -> Task:
    """Find and check a keypoint data set.

    Args:
        data: its folder, see the top of this file, or one keypoint file, such as DeepLabCut's
            `labeled-data/<video>/CollectedData_<scorer>.csv` beside its pictures.
        protocol: one of `PROTOCOLS`. None: jhmdb in JHMDB's layout; else posetrack with boxes of heads; else
            badja where all joints have BADJA's names or the one instance has a silhouette in a DAVIS layout;
            else frame-diagonal. What was decided is in the task's `protocol`.
        frames: folder of the frames where they are elsewhere: it has a folder per sequence, itself or in a
            DAVIS layout, whose silhouettes are then found too. For JHMDB it replaces `Rename_Images`.
        alpha: replaces the protocol's. The keys are PCK@alpha, and at a half and a quarter of it (JHMDB:
            PCK@0.1 and PCK@0.2, unless alpha is given).

    Raises:
        InputError: The layout is wrong, or a sequence, its frames, silhouettes or heads are at fault.
    """
    data = Path(data)
    if protocol not in (None, *PROTOCOLS):
        raise InputError(f"There is no keypoint protocol {protocol}: choose {', '.join(PROTOCOLS)}.")
    if not data.exists():
        raise InputError(f"{data} is missing: give a folder with Keypoints/, or a file of keypoints.")
    if alpha is not None and not 0 < alpha < np.inf:
        raise InputError(f"alpha is {alpha}: it must be a number above 0.")
    if protocol in JHMDB_PROTOCOLS or (protocol is None and is_jhmdb(data)):
        alphas = None if alpha is None else _alphas(alpha)
        return find_jhmdb(data, protocol or JHMDB_PROTOCOLS[0], frames=frames, alphas=alphas)
    files = _files(data)
    places_of_frames = [frames_of(frames, file.stem, alone=len(files) == 1) for file in files]
    found = list(zip(files, places_of_frames, strict=True))
    protocol = protocol or _choose(data, found)
    items = [PoseItem(PoseSet.load(file, protocol, frames=folder, alpha=alpha)) for file, folder in found]
    return PoseTask(data, protocol, ALPHA[protocol] if alpha is None else alpha, items)


class PoseItem(OfFolder):
    """One sequence with keypoints.

    Attributes:
        pose: its truth.
        name, frames: see `Item`.
    """

    def __init__(self, pose: PoseSet) -> None:
        super().__init__(pose.frames, pose.sources)
        self.pose = pose
        self.name = pose.name

    def runs(self) -> list[Run]:
        """From the first to the last annotated frame."""
        first, last = self.pose.numbers[0], self.pose.numbers[-1]
        return [Run("", {first: self.pose.given}, start=first, end=last + 1)]

    def score(self, folder: Path) -> Record:
        """PCK of the predictions; a scored point without one is wrong.

        Returns:
            `detail`: `points` and `lost`, the number of scored points and of those without a prediction;
            `correct` by key; `keypoints` and `instances` by name: the number of scored points, and of correct
            ones by key. `series`: the share of correct points, by the main key.

        Raises:
            InputError: The predictions can't be read, or are of other points.
        """
        pose = self.pose
        predicted = places(pose, self._read(folder))
        correct = {
            key: correct_points(pose.xy, predicted, alpha * pose.size_px[..., None]) & pose.scored
            for key, alpha in _keys(pose.protocol, pose.alpha).items()
        }
        points = int(pose.scored.sum())
        series: list[float | None] = [None] * self.frames
        main = next(iter(correct.values()))
        for number, scored, right in zip(pose.numbers, pose.scored, main, strict=True):
            if scored.any():
                series[number] = float(right.sum() / scored.sum())

        def by(axis: int, names: Sequence[str]) -> dict[str, Any]:
            others = tuple(i for i in range(3) if i != axis)
            counts = {key: right.sum(others) for key, right in correct.items()}
            total = pose.scored.sum(others)
            return {
                name: {"points": int(total[i]), "correct": {key: int(n[i]) for key, n in counts.items()}}
                for i, name in enumerate(names)
            }

        return {
            "scores": {key: float(right.sum() / points) for key, right in correct.items()},
            "detail": {
                "points": points,
                "lost": int((pose.scored & ~np.isfinite(predicted).all(-1)).sum()),
                "correct": {key: int(right.sum()) for key, right in correct.items()},
                "keypoints": by(2, pose.names),
                "instances": by(1, pose.instances),
            },
            "series": {"all": series},
        }

    def truth(self, index: int) -> Keypoints | None:
        """The annotation of a frame, if it has one."""
        return self.pose.truth.get(index)

    def predicted(self, folder: Path, index: int) -> Keypoints | None:
        """The predicted keypoints of a frame, if there are any."""
        return read_keypoints(folder).get(index)

    def _read(self, folder: Path) -> dict[int, Keypoints]:
        """Predictions for all frames with a scored point: without points where there are none."""
        return checked_keypoints(
            folder,
            [n for n, scored in zip(self.pose.numbers, self.pose.scored, strict=True) if scored.any()],
            self.pose.instances,
            self.pose.names,
        )


@dataclass(eq=False)
class PoseTask:
    """Keypoints of several sequences under one protocol, see `Task`."""

    data: Path
    name: str
    alpha: float
    items: Sequence[Item]
    lower: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.benchmark = "pose"
        self.title = self.data.resolve().name
        self.keys = tuple(_keys(self.name, self.alpha))
        self.protocol: dict[str, Any] = {
            "name": self.name,
            "alpha": self.alpha,
            "correct_within": WITHIN[self.name],
            "given": "the first annotated frame, which is not scored",
            "scored": "points annotated and visible both in their frame and in the given one",
            "lost_points": "wrong",
            "mean": "over all points of all sequences",
        }

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        """PCK over all points of all sequences, by key; None without any."""
        details = [record["detail"] for record in records.values()]
        points = sum(detail["points"] for detail in details)
        return {
            key: sum(detail["correct"][key] for detail in details) / points if points else None
            for key in self.keys
        }


def _alphas(alpha: float) -> tuple[float, ...]:
    return alpha, alpha / 2, alpha / 4


def _keys(protocol: str, alpha: float) -> dict[str, float]:
    """The names of the scores and their alphas, the main one first."""
    kind = "PCKh" if protocol == "posetrack" else "PCK"
    return {f"{kind}@{value:g}": value for value in _alphas(alpha)}


def _files(data: Path) -> list[Path]:
    """The keypoint files of a data set, by name."""
    if data.is_file():
        return [data]
    folder = data / "Keypoints"
    if not folder.is_dir():
        raise InputError(
            f"{data} has no folder Keypoints: give a folder with Keypoints/<sequence>.csv, that of "
            "JHMDB, or a file of keypoints."
        )
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in _KINDS and not file.name.startswith(".") and not file.name.endswith(_BESIDE)
    )
    if not files:
        raise InputError(f"{folder} holds no keypoints: put files <sequence>.csv there.")
    stems = [file.stem for file in files]
    for file in files:
        if stems.count(file.stem) > 1:
            raise InputError(f"{folder} has two files of keypoints of {file.stem}: remove one.")
    return files


def _choose(data: Path, found: Sequence[tuple[Path, Path | None]]) -> str:
    """The protocol that all sequences allow for."""
    chosen = {file: _choose_one(file, folder) for file, folder in found}
    first = next(iter(chosen))
    for file, protocol in chosen.items():
        if protocol != chosen[first]:
            raise InputError(
                f"{data} fits to several protocols, {first.stem} to {chosen[first]} and {file.stem} to "
                f"{protocol}: choose one with --protocol."
            )
    return chosen[first]


def _choose_one(file: Path, folder: Path | None) -> str:
    if file.with_suffix(".heads.csv").is_file():
        return "posetrack"
    points = next(iter(Keypoints.load(file).values()))
    if set(points.names) <= _BADJA and any(name.startswith(("upper_", "lower_")) for name in points.names):
        return "badja"
    if len(points.instances) == 1 and silhouettes(find_frames(file, folder)).is_dir():
        return "badja"
    return "frame-diagonal"

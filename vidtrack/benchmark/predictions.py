"""What trackers say of a sequence, on disk: written frame by frame, read again to be scored.

    FOLDER/<frame's stem>.png     ids, palette PNG
    FOLDER/<frame's stem>.npz     soft label maps, where a run asks for them
    FOLDER/keypoints.csv          frame, instance, keypoint, x, y, visible
    FOLDER/boxes.csv              the columns of MOTChallenge

Of a sequence with several runs, each has a folder of its own in FOLDER.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vidtrack.benchmark.task import Run
from vidtrack.labels.boxes import Boxes
from vidtrack.labels.boxfiles import write_mot
from vidtrack.labels.keypointfiles import write_csv
from vidtrack.labels.keypoints import Keypoints
from vidtrack.labels.masks import Masks

KEYPOINTS, BOXES = "keypoints.csv", "boxes.csv"
KINDS: dict[type[Any], str] = {Masks: "masks", Keypoints: "keypoints", Boxes: "boxes"}  # folders


class Writer:
    """Writes the results of one run.

    Args:
        folder: of the sequence.
        run: what was asked.
    """

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder = folder_of(folder, run)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._soft = run.soft
        self._kind = type(next(iter(run.annotations.values())))
        self._frames: list[tuple[int, str, Any]] = []

    def put(self, result: Any) -> None:
        """Write the labels of a frame: a `vidtrack.Result`."""
        if self._kind is not Masks:
            self._frames.append((result.index, result.name, result.labels))
            return
        Masks(ids=result.labels.ids, void=None).save(self.folder / f"{result.name}.png", overwrite=True)
        if self._soft and result.soft is not None:
            np.savez(
                self.folder / f"{result.name}.npz",
                labels=result.soft["labels"].astype(np.float16),
                objects=np.asarray(result.soft["objects"], np.int64),
                working=np.asarray(result.soft["working"], np.int64),
                stride=result.soft["stride"],
            )

    def close(self) -> None:
        """Write what belongs into one file."""
        if self._kind is Keypoints:
            write_csv(self.folder / KEYPOINTS, ((i, name, labels) for i, name, labels in self._frames))
        elif self._kind is Boxes:
            write_mot(self.folder / BOXES, self._frames)


def folder_of(folder: Path, run: Run) -> Path:
    """Where the predictions of a run are, in the folder of its sequence."""
    return folder / run.name if run.name else folder


def read_keypoints(folder: Path) -> dict[int, Keypoints]:
    """Keypoints by frame number; frames without any may be absent."""
    return Keypoints.load(folder / KEYPOINTS)


def read_boxes(folder: Path) -> dict[int, Boxes]:
    """Boxes by frame number; frames without any may be absent."""
    path = folder / BOXES
    return Boxes.load(path) if path.stat().st_size else {}  # all lost: no line at all

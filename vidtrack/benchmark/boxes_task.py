"""Boxes as a benchmark: success and precision over the sequences of a folder, or of one file.

    ROOT/Boxes/<sequence>.csv                    or .txt: any file that `Boxes.load` reads
    ROOT/JPEGImages/<resolution>/<sequence>/00000.jpg ...     unless the frames are elsewhere

or the layouts of OTB and VOT, see `otb.py`. The measures are those of OTB's one-pass evaluation (Wu, Lim &
Yang, "Online Object Tracking: A Benchmark", CVPR 2013), for all layouts: of a sequence the share of boxes,
then the mean over sequences. What differs from OTB's tool: the first box is given and not scored (there it
counts as a success); a lost box has an IoU of 0 (there the box of the frame before takes its place); and true
boxes that reach over the left or upper border are scored as all others, as pytracking does (there their
overlap counts as failed and their centre as right).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.boxes import KEYS, BoxSet, ious, score
from vidtrack.benchmark.layout import OfFolder, frames_of
from vidtrack.benchmark.otb import FINDERS, layout_of
from vidtrack.benchmark.predictions import BOXES, read_boxes
from vidtrack.benchmark.task import Item, Record, Run, Task
from vidtrack.labels.boxes import Boxes

_KINDS = (".csv", ".txt")
_CONVENTIONS = {
    "csv": "edges in pixels from 0, as Boxes.load says",
    "otb": "x, y, width, height in pixels from 1: 1 is taken from x and y",
    "vot": "pixels from 0; four corners become the upright box around them",
}


def find_boxes(data: Path, frames: Path | None = None) -> Task:
    """Find and check a data set of boxes.

    Args:
        data: its folder, see the top of this file; one sequence of OTB or VOT; or one file of boxes.
        frames: folder of the frames where they are elsewhere: it has a folder per sequence, itself or in a
            DAVIS layout.

    Raises:
        InputError: The layout is wrong, or a sequence, its frames or boxes are at fault.
    """
    data = Path(data)
    if not data.exists():
        raise InputError(f"{data} is missing: give a folder in the layout of OTB or VOT, or with Boxes/.")
    if data.is_file() or (data / "Boxes").is_dir():
        layout, sets = "csv", _csv_sets(data, frames)
    else:
        found = layout_of(data)
        if found is None:
            raise InputError(
                f"{data} has no boxes: it needs Boxes/<sequence>.csv, <sequence>/groundtruth_rect.txt (OTB) "
                "or <sequence>/groundtruth.txt (VOT)."
            )
        layout, sets = found, FINDERS[found](data, frames)
    if not sets:
        raise InputError(f"{data} has no sequence with boxes.")
    return BoxTask(data, layout, [BoxItem(boxes) for boxes in sets])


class BoxItem(OfFolder):
    """One sequence with boxes.

    Attributes:
        boxes: its truth.
        name, frames: see `Item`.
    """

    def __init__(self, boxes: BoxSet) -> None:
        super().__init__(boxes.frames, boxes.sources)
        self.boxes = boxes
        self.name = boxes.name

    def runs(self) -> list[Run]:
        """From the first to the last annotated frame."""
        first, last = self.boxes.numbers[0], self.boxes.numbers[-1]
        return [Run("", {first: self.boxes.given}, start=first, end=last + 1)]

    def score(self, folder: Path) -> Record:
        """The measures over all scored boxes of the sequence; one without a prediction is lost.

        Returns:
            `detail`: `boxes` and `lost`, the number of scored boxes and of those without a prediction, and
            `objects`, the mean IoU by id. `series`: the IoU by id.

        Raises:
            InputError: The predictions can't be read, have other ids, or none of the frames.
        """
        boxes, found = self.boxes, self._read(folder)
        result = score(boxes, found)
        overlap = ious(boxes, found)
        series: dict[str, list[float | None]] = {}
        for place, id_ in enumerate(boxes.ids):
            values: list[float | None] = [None] * self.frames
            for number, value in zip(boxes.numbers, overlap[:, place], strict=True):
                values[number] = None if np.isnan(value) else float(value)
            series[str(id_)] = values
        return {
            "scores": {key: result[key] for key in KEYS},
            "detail": {key: result[key] for key in ("boxes", "lost", "objects")},
            "series": series,
        }

    def truth(self, index: int) -> Boxes | None:
        """The annotation of a frame, if it has one."""
        return self.boxes.truth.get(index)

    def predicted(self, folder: Path, index: int) -> Boxes | None:
        """The predicted boxes of a frame, if there are any."""
        return read_boxes(folder).get(index)

    def _read(self, folder: Path) -> dict[int, Boxes]:
        """Predictions for all annotated frames: MOTChallenge's files have no line for lost objects."""
        path, numbers, known = folder / BOXES, self.boxes.numbers, self.boxes.given.ids
        if not path.is_file():
            raise InputError(f"{path} is missing: each sequence needs its predicted boxes.")
        found = read_boxes(folder)
        for number, boxes in found.items():
            if unknown := [id_ for id_ in boxes.ids if id_ not in known]:
                raise InputError(
                    f"{path} has object {unknown[0]} in frame {number}, but given are "
                    f"{', '.join(map(str, known))}."
                )
        if found and not any(numbers[0] <= number <= numbers[-1] for number in found):
            raise InputError(f"{path} has none of the frames {numbers[0]} to {numbers[-1]}: predict these.")
        nothing = Boxes((), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        return {number: found.get(number, nothing) for number in numbers}


@dataclass(eq=False)
class BoxTask:
    """Boxes of several sequences, see `Task`."""

    data: Path
    layout: str
    items: Sequence[Item]
    lower: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.benchmark = "boxes"
        self.title = self.data.resolve().name
        self.keys = KEYS
        self.protocol: dict[str, Any] = {
            "layout": self.layout,
            "coordinates": _CONVENTIONS[self.layout],
            "given": "the first annotated frame, which is not scored",
            "success": "share of boxes with an IoU above 0, 0.05, ... 1, averaged; SR@0.5: above 0.5",
            "precision": "share of boxes whose centre is at most 20 px from the true one",
            "lost_boxes": "IoU 0",
            "mean": "over the boxes of a sequence, then over sequences",
        }

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        """The mean over sequences of each score; None without any."""
        scores = [record["scores"] for record in records.values()]
        return {key: float(np.mean([s[key] for s in scores])) if scores else None for key in self.keys}


def _csv_sets(data: Path, frames: Path | None) -> list[BoxSet]:
    files = [data]
    if data.is_dir():
        folder = data / "Boxes"
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in _KINDS and not file.name.startswith(".")
        )
        if not files:
            raise InputError(f"{folder} holds no boxes: put files <sequence>.csv there.")
    stems = [file.stem for file in files]
    for file in files:
        if stems.count(file.stem) > 1:
            raise InputError(f"{file.parent} has two files of boxes of {file.stem}: remove one.")
    return [BoxSet.load(f, frames=frames_of(frames, f.stem, alone=len(files) == 1)) for f in files]

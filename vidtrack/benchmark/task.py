"""What a benchmark is made of: sequences, each with what a tracker is given and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """One pass of a tracker over a sequence.

    Attributes:
        name: "" if the sequence has one run, else a name that can be a folder's, unique in the sequence.
        annotations: what is given: `Masks`, `Keypoints` or `Boxes`, all of one kind, by frame number.
        start: first frame of the pass.
        end: the frame after its last; None: to the end of the video.
        direction: "forward", or "both": with one annotated frame, from it to both ends.
        soft: soft label maps are kept beside the masks.
    """

    name: str
    annotations: dict[int, Any]
    start: int = 0
    end: int | None = None
    direction: str = "forward"
    soft: bool = False


class Item(Protocol):
    """One sequence. It can be pickled: `score` runs in other processes.

    Attributes:
        name: unique in its task; it can be a folder's.
        frames: number of frames.
    """

    name: str
    frames: int

    def fingerprint(self) -> str:
        """SHA-256 of all that decides what is given and what is true, in hexadecimal digits."""

    def video(self) -> AbstractContextManager[Path]:
        """The video file or folder of frames that a tracker reads; inside the `with` block it is there."""

    def runs(self) -> Sequence[Run]:
        """What a tracker has to do."""

    def score(self, folder: Path) -> Record:
        """Score the predictions in a folder, see `vidtrack.benchmark.predictions`.

        Returns:
            JSON values: `scores` by the task's keys (None where there is nothing to score), `detail` (what
            `Task.summarize` needs), and `series`: the main score per frame, by object.
        """

    def frame(self, index: int) -> NDArray[np.uint8]:
        """The picture of a frame, RGB uint8 `[H, W, 3]`."""

    def truth(self, index: int) -> Any:
        """The true labels of a frame, to be drawn; None where it isn't annotated."""

    def predicted(self, folder: Path, index: int) -> Any:
        """The predicted labels of a frame, to be drawn; None where there are none."""


class Task(Protocol):
    """A data set with a protocol.

    Attributes:
        benchmark: the command's name.
        title: what is measured, in a few words.
        keys: names of the scores, the main one first.
        lower: those of them that are better when lower; higher is better for the others.
        data: where the data lies.
        protocol: all that decides the scores beside data and tracker, JSON values.
        items: the sequences.
    """

    benchmark: str
    title: str
    keys: tuple[str, ...]
    lower: tuple[str, ...]
    data: Path
    protocol: dict[str, Any]
    items: Sequence[Item]

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        """The scores over all sequences, aggregated as the official tool does it."""

"""What the outputs of all kinds of label have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from vidtrack.job.records import Record
from vidtrack.session import Result

L = TypeVar("L")
DIGITS = 4  # of the confidence in reports


@dataclass(frozen=True)
class About:
    """What an output has to know of a run.

    Attributes:
        labels: the annotations by frame number, all of one kind.
        size: `(height, width)` of the frames.
        working: `(height, width)` at which embeddings are computed.
        stride: working pixels per cell.
        rate: frames per second.
        saves: names of `--save`.
        pixel_aspect: of the video, see `VideoInfo`.
    """

    labels: Mapping[int, Any]
    size: tuple[int, int]
    working: tuple[int, int]
    stride: int
    rate: Fraction
    saves: frozenset[str]
    pixel_aspect: Fraction = Fraction(1)

    @property
    def kind(self) -> type[Any]:
        """The class of the labels."""
        return type(self.first)

    @property
    def first(self) -> Any:
        """The first annotation."""
        return next(iter(self.labels.values()))


class Output(ABC, Generic[L]):
    """Writes the labels of one kind into a folder.

    Per frame: `put`, or `skip` for one without labels. At the end: `finish`, or `abort`. `there` and
    `restore` are for the folders of earlier runs: they read the labels of a frame back, exactly.

    Args:
        folder: where files go.
        about: see `About`.

    Attributes:
        saves: what `--save` can add for this kind.
        kept: folders with a file per frame, which remain valid when a run is stopped.
    """

    saves: ClassVar[frozenset[str]] = frozenset()
    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self.about = folder, about

    @classmethod
    def check(cls, saves: frozenset[str]) -> None:
        """Raises InputError if something of `--save` can't be written on this machine."""
        return

    def complete(self, labels: L) -> L:
        """Labels of a frame that no annotation reaches, which lack the layout of the others, get it."""
        return labels

    @abstractmethod
    def objects(self, labels: L, confidence: Mapping[Any, float]) -> dict[str, Any]:
        """What the report tells of a frame, by object."""

    @abstractmethod
    def draw(self, image: np.ndarray, labels: L) -> np.ndarray:
        """The picture of the overlay, uint8 `[H, W, 3]`."""

    @abstractmethod
    def put(self, result: Result, labels: L, source: Path | None) -> Any:
        """Write what belongs to one frame.

        Args:
            result: of the frame.
            labels: its labels, `complete`.
            source: folder of an earlier run that the labels were read from, or None; where it is this
                output's own folder, the frame's own files are there already.

        Returns:
            JSON values for the record, for kinds whose labels are in no file of their own.
        """

    def skip(self, result: Result) -> None:
        """A frame has no labels, as it could not be decoded: what has times must stay in step."""
        return

    @classmethod
    @abstractmethod
    def there(cls, about: About, record: Record, folder: Path) -> bool:
        """Whether an earlier run's folder has all that `restore` and `put` need of a frame."""

    @classmethod
    @abstractmethod
    def restore(
        cls, about: About, record: Record, folder: Path, like: L | None
    ) -> tuple[L, dict[Any, float]]:
        """Labels and confidence of a frame that an earlier run wrote.

        Args:
            about: see `About`.
            record: of the frame.
            folder: of the earlier run.
            like: the annotation that the labels were carried from, None if there is none.

        Raises:
            InputError: a file that can't be read.
        """

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        """Write what belongs to the whole video.

        Args:
            records: gives the records of all frames with labels in order, as often as it is called.
        """

    def abort(self) -> None:
        """Stop at once and leave nothing open."""

    @abstractmethod
    def files(self) -> list[str]:
        """The names of what is written, for the terminal."""


def rounded(confidence: float) -> float:
    """A confidence as reports have it."""
    return round(float(confidence), DIGITS)


def shortest(value: np.floating) -> float:
    """The float whose shortest digits are those of the float32, which JSON then keeps exactly."""
    return float(str(value))

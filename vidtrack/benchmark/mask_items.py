"""What the sequences of all mask benchmarks share: frames, annotations, and result masks of any tool."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.benchmark.davis import read_ids
from vidtrack.benchmark.mask_files import has_result, read_result
from vidtrack.benchmark.task import Item, Record, Run
from vidtrack.files import sha256
from vidtrack.labels.masks import Masks
from vidtrack.video.images import read_image

Ids = NDArray[np.uint8]


@dataclass(eq=False)
class MaskItem(ABC):
    """A sequence with true masks in some or all frames.

    Attributes:
        name: of its folders.
        frames: number of frames.
        files: the frames in order of time, all that their folder holds.
        annotations: file of the true masks by frame number, ascending.
        size: `(height, width)` of frames and annotations in pixels.
        objects: the ids that a result may have, ascending.
        void: value of annotation pixels that carry no label, None if there is none.
        binary: any value but 0 is the object 1.
    """

    name: str
    frames: int
    files: tuple[Path, ...]
    annotations: dict[int, Path]
    size: tuple[int, int]
    objects: tuple[int, ...]
    void: int | None
    binary: bool

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What decides about given and true labels besides the content of the files, as JSON values."""

    @abstractmethod
    def runs(self) -> Sequence[Run]:
        """What a tracker has to do."""

    @abstractmethod
    def scored(self) -> Sequence[int]:
        """Numbers of the frames in which something is scored, ascending."""

    @abstractmethod
    def score(self, folder: Path) -> Record:
        """Score the masks in a folder, a tracker's or those of any other tool, see `mask_files`."""

    def fingerprint(self) -> str:
        """SHA-256 of the frames, the annotations and `about()`, in hexadecimal digits."""
        digest = hashlib.sha256(json.dumps(self.about(), sort_keys=True).encode())
        for path in (*self.files, *self.annotations.values()):
            digest.update(os.fsencode(f"{path.name}\0{sha256(path)}\0"))
        return digest.hexdigest()

    def video(self) -> AbstractContextManager[Path]:
        """The folder of frames."""
        return nullcontext(self.files[0].parent)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """A frame, RGB uint8 `[H, W, 3]`."""
        return read_image(self.files[index])

    def annotation(self, index: int) -> Ids:
        """Values of an annotation, uint8 `[H, W]`: ids, and `void` where there is no label."""
        ids = read_ids(self.annotations[index])
        return (ids != 0).astype(np.uint8) if self.binary else ids

    def masks(self, index: int, objects: Iterable[int]) -> Masks:
        """Some objects of an annotation, as a tracker gets them: all others are background."""
        ids = self.annotation(index)
        void = None if self.void is None else ids == self.void
        return Masks(ids=np.where(np.isin(ids, list(objects)), ids, 0).astype(np.uint8), void=void)

    def truth(self, index: int) -> Masks | None:
        """The true masks of a frame; None where it isn't annotated."""
        return self.masks(index, self.objects) if index in self.annotations else None

    def predicted(self, folder: Path, index: int) -> Masks | None:
        """The result masks of a frame; None where there are none."""
        return Masks(ids=self.result(folder, index)) if self.has_result(folder, index) else None

    def has_result(self, folder: Path, index: int) -> bool:
        """Whether there are result masks of a frame."""
        return has_result(folder / self.files[index].stem)

    def result(self, folder: Path, index: int) -> Ids:
        """Ids of the result masks of a frame, uint8 `[H, W]`.

        Raises:
            InputError: See `read_result`.
        """
        path = folder / self.files[index].stem
        return read_result(path, self.size, self.objects, binary=self.binary, optional=self.missing(index))

    def missing(self, index: int) -> Collection[int]:
        """Objects without which per-object masks of a frame are complete."""
        return ()

    def check(self, folder: Path) -> None:
        """Read the result masks of all scored frames.

        Raises:
            InputError: See `read_result`.
        """
        for index in self.scored():
            self.result(folder, index)


@dataclass(eq=False)
class MaskTask:
    """A data set of masks with its protocol; see `vidtrack.benchmark.task.Task` for the attributes.

    Attributes:
        total: the scores of all sequences from the `detail` of each.
    """

    benchmark: str
    title: str
    keys: tuple[str, ...]
    data: Path
    protocol: dict[str, Any]
    items: Sequence[Item]
    total: Callable[[Sequence[Any]], dict[str, float | None]]
    lower: tuple[str, ...] = ()

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        """The scores over all sequences."""
        return self.total([record["detail"] for record in records.values()])


def require_scored(items: Iterable[MaskItem], why: str) -> None:
    """Check that there is anything to score.

    Raises:
        InputError: `why`, where no sequence has a scored frame.
    """
    if not any(item.scored() for item in items):
        raise InputError(why)

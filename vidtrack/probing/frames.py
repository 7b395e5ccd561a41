"""Frames with masks of classes, for the pixel probe: which train, and which test.

ROOT/JPEGImages/[<resolution>/]<sequence>/00000.jpg ...
ROOT/Annotations/[<resolution>/]<sequence>/00000.png ...      of some or all frames
ROOT/classes.json                                             optional; {"classes": {"1": "Sky", ...}}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.davis import VOID, read_ids
from vidtrack.benchmark.folders import find_sequences
from vidtrack.video.images import read_image

SPLIT = "the first half of each sequence's annotated frames trains, the second half tests"


@dataclass(frozen=True)
class Frame:
    """A frame with a mask: its name and its two files."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Halves:
    """Frames to train on and to test on.

    Attributes:
        train, test: the frames.
        void: value of pixels without a class; None where 255 is a class of its own.
        binary: the masks are 0 and 255 only: 255 counts as class 1.
        names: of classes, where known.
    """

    train: tuple[Frame, ...]
    test: tuple[Frame, ...]
    void: int | None
    binary: bool
    names: dict[int, str]

    def images(self, frames: Sequence[Frame]) -> Pictures:
        """Their pictures, uint8 `[H, W, 3]`, read when asked for."""
        return Pictures(frames)

    def masks(self, frames: Sequence[Frame]) -> Pictures:
        """Their masks, uint8 `[H, W]`, read when asked for."""
        return Pictures(frames, masks=True, binary=self.binary)


@dataclass(frozen=True, eq=False)
class PixelPicture:
    """A test frame with the true and the predicted class of each pixel.

    Attributes:
        name: of the frame.
        row: name of the backbone.
        image: uint8 `[H, W, 3]` RGB.
        truth, predicted: uint8 `[H, W]`, classes.
        void: value of true pixels without a class.
    """

    name: str
    row: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    void: int | None = 255


class Pictures(Sequence[np.ndarray]):
    """The pictures or the masks of frames, read from their files one at a time."""

    def __init__(self, frames: Sequence[Frame], masks: bool = False, binary: bool = False) -> None:
        self.frames, self.of_masks, self.binary = frames, masks, binary

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> Pictures: ...
    def __getitem__(self, place: int | slice) -> np.ndarray | Pictures:
        if isinstance(place, slice):
            return Pictures(self.frames[place], self.of_masks, self.binary)
        frame = self.frames[place]
        if not self.of_masks:
            return read_image(frame.image)
        ids = read_ids(frame.mask)
        return (ids != 0).astype(np.uint8) if self.binary else ids


def has_frames(data: Path) -> bool:
    """Whether a folder has the layout of frames with masks."""
    return (data / "JPEGImages").is_dir() and (data / "Annotations").is_dir()


def find_halves(
    data: Path, resolution: str | None = None, limit: int | None = None, test_limit: int | None = None
) -> Halves:
    """Find the annotated frames; the first half of those of each sequence trains, the second half tests.

    Neighbouring frames are nearly the same picture: a random half would test on what it trained on.

    Args:
        data: the folder.
        resolution: folder under `JPEGImages`, needed only if there are several.
        limit, test_limit: at most so many frames of each, spread evenly.

    Raises:
        InputError: a wrong layout, an unreadable mask, or no sequence with two annotated frames.
    """
    _, folders = find_sequences(data, None, resolution)
    train: list[Frame] = []
    test: list[Frame] = []
    for folder in folders:
        frames = [
            Frame(f"{folder.name}/{folder.files[index].stem}", folder.files[index], mask)
            for index, mask in folder.annotations.items()
        ]
        middle = (len(frames) + 1) // 2
        train += frames[:middle]
        test += frames[middle:]
    if not test:
        raise InputError(f"{data / 'Annotations'} has one mask per sequence: the second half has to test.")
    some, others = _spread(train, limit), _spread(test, test_limit)
    values = {int(value) for frame in (*some, *others) for value in np.unique(read_ids(frame.mask))}
    binary = values == {0, VOID}
    return Halves(tuple(some), tuple(others), None if binary else VOID, binary, _names(data))


def _spread(frames: list[Frame], limit: int | None) -> list[Frame]:
    if limit is None or len(frames) <= limit:
        return frames
    return [frames[place] for place in np.linspace(0, len(frames) - 1, limit).round().astype(int)]


def _names(data: Path) -> dict[int, str]:
    """Names of classes are for the eye only: without a usable file there are none."""
    try:
        named = json.loads((data / "classes.json").read_text(encoding="utf-8"))["classes"]
        return {int(key): str(name) for key, name in named.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}

"""Folders of frames: which files are frames, in which order, and reading them one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from pretrain.limits import TooLarge
from vidtrack.video.container import VIDEO_SUFFIXES, reason
from vidtrack.video.decode import Damage
from vidtrack.video.frame import DEFAULT_RATE, Frame, VideoInfo
from vidtrack.video.images import SUFFIXES, image_size, read_image


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which `frame2` comes before `frame10`."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts if p] + [(-1, 0, name)]


def list_images(folder: Path) -> list[Path]:
    """The frames of a folder in natural order: files with the suffix of a picture that aren't hidden.

    Raises:
        InputError: the folder can't be read, holds no picture, two of the same name, or one whose name is no
            text.
    """
    try:
        named = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    except OSError as error:
        raise InputError(f"{folder} can't be read ({reason(error)}): check its permissions.") from error
    files = [file for file in named if file.suffix.lower() in SUFFIXES]
    if not files:
        video = min((file for file in named if file.suffix.lower() in VIDEO_SUFFIXES), default=None)
        instead = "" if video is None else f", or one of its videos, such as {video}"
        raise InputError(
            f"{folder} holds no pictures: give a folder of png, jpg, webp, tif or bmp frames{instead}."
        )
    for file in files:
        if any(unicodedata.category(one) in ("Cc", "Cs") for one in file.name):  # results have its name
            raise InputError(f"{folder} holds a picture named {file.name!r}, which is no text: rename it.")
    files.sort(key=lambda file: natural_key(file.name))
    seen: dict[str, Path] = {}
    for file in files:
        if (other := seen.setdefault(file.stem, file)) is not file:
            raise InputError(
                f"{other} and {file.name} are two frames of one name: keep one kind of picture in the folder."
            )
    return files


class Folder:
    """A folder of frames.

    Attributes:
        files: the frames in order.
        info: what `probe` tells of it.

    Raises:
        InputError: see `list_images`; also when none of the pictures can be read, or one is too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = list_images(path)
        self._first, image = self._first_readable()
        self.info = VideoInfo(
            path=path,
            kind="folder",
            width=image.shape[1],
            height=image.shape[0],
            rate=DEFAULT_RATE,
            frames=len(self.files),
            duration=float(len(self.files) / DEFAULT_RATE),
            codec=self.files[0].suffix.lower().lstrip("."),
            rotation=0,
            has_audio=False,
        )

    def check_sizes(self, start: int, end: int) -> None:
        """Look at the headers of the frames `start` to `end` - 1, before any work is done on them.

        Raises:
            InputError: a frame is of another size than the first; names both.
        """
        for file in self.files[start:end]:
            self._check_size(file, image_size(file))

    def read(self, start: int, end: int, damage: Damage) -> Iterator[Frame]:
        """Frames `start` to `end` - 1; what can't be read repeats the frame before (or the first good).

        Raises:
            InputError: a frame is of another size than the first.
        """
        good: Path | None = None
        for index in range(start, end):
            image = self._read(self.files[index])
            damaged = image is None
            if image is None:
                good = good or self._good_before(index)
                image = read_image(good)  # again, since the caller may have drawn on the frame before
            else:
                good = self.files[index]
            damage.frames += 1
            damage.damaged += damaged
            yield Frame(index, index / DEFAULT_RATE, image, damaged, self.files[index].stem)
        damage.complete = True

    def _read(self, file: Path) -> np.ndarray | None:
        try:
            image = read_image(file)
        except TooLarge:
            raise
        except InputError:
            return None
        self._check_size(file, (image.shape[1], image.shape[0]))
        return image

    def _check_size(self, file: Path, size: tuple[int, int] | None) -> None:
        if size is not None and size != (self.info.width, self.info.height):
            raise InputError(
                f"{file} is {size[0]}x{size[1]}, but {self._first.name} is "
                f"{self.info.width}x{self.info.height}: all frames of a folder must be of one size."
            )

    def _first_readable(self) -> tuple[Path, np.ndarray]:
        for file in self.files:
            try:
                return file, read_image(file)
            except TooLarge:
                raise
            except InputError:
                continue
        raise InputError(f"{self.path} holds no picture that can be read: write its frames again.")

    def _good_before(self, index: int) -> Path:
        """The last readable picture before `index`, else the first one of the folder."""
        for file in reversed(self.files[:index]):
            if self._read(file) is not None:
                return file
        return self._first

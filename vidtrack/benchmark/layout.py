"""Where the frames of a file of keypoints or boxes are, and the part of an item that they decide.

ROOT/Keypoints/<sequence>.csv or ROOT/Boxes/<sequence>.csv
ROOT/<kind>/<sequence>.meta.json                      optional; its "image_size" is [width, height]
ROOT/JPEGImages/<resolution>/<sequence>/00000.jpg ...

A file without such a ROOT has its frames beside it, as in DeepLabCut's `labeled-data/<video>`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.files import sha256
from vidtrack.labels.textfiles import head
from vidtrack.video.folder import list_images
from vidtrack.video.images import SUFFIXES, image_size, read_image


@dataclass(frozen=True)
class FrameFolder:
    """The frames that a label file numbers.

    Attributes:
        path: the folder.
        files: its frames in order of time: frame number n of the labels is `files[n]`.
        size: `(height, width)` of the first frame, in pixels.
    """

    path: Path
    files: tuple[Path, ...]
    size: tuple[int, int]


class OfFolder:
    """An item of a benchmark, as far as its folder of frames decides it.

    Attributes:
        folder: the frames.
        sources: the other files that decide what is given and what is true.
        frames: number of frames.
    """

    def __init__(self, folder: FrameFolder, sources: Iterable[Path]) -> None:
        self.folder = folder
        self.sources = tuple(sources)
        self.frames = len(folder.files)

    def fingerprint(self) -> str:
        """SHA-256 of the names and contents of all frames and sources, in hexadecimal digits."""
        digest = hashlib.sha256()
        for file in (*self.folder.files, *self.sources):
            digest.update(os.fsencode(f"{file.name}\0{sha256(file)}\0"))
        return digest.hexdigest()

    def video(self) -> AbstractContextManager[Path]:
        """The folder of frames."""
        return nullcontext(self.folder.path)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """The picture of a frame, RGB uint8 `[H, W, 3]`."""
        return read_image(self.folder.files[index])


def find_frames(labels: Path, frames: Path | str | None = None) -> FrameFolder:
    """Find the frames of a label file and check that they are those that it was made for.

    Args:
        labels: the file of keypoints or boxes.
        frames: their folder where it isn't beside the label file.

    Raises:
        InputError: The label file is missing, its frames aren't found, are found at several resolutions,
            can't be read, or have another size than `<sequence>.meta.json` says.
    """
    if not labels.is_file():
        raise InputError(f"{labels} is missing.")
    folder = _beside(labels) if frames is None else Path(frames)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: the frames of {labels} should be there.")
    found = open_frames(folder)
    height, width = found.size
    wanted = _wanted_size(labels.with_suffix(".meta.json"))
    if wanted not in (None, (width, height)):
        raise InputError(
            f"{found.files[0]} has {width}x{height} pixels, but {labels} was made for "
            f"{wanted[0]}x{wanted[1]}: give the folder of the frames that were labelled."
        )
    return found


def open_frames(folder: Path) -> FrameFolder:
    """The frames of a folder.

    Raises:
        InputError: There are none, or the first can't be read.
    """
    files = tuple(list_images(folder))
    found = image_size(files[0])
    if found is None:
        raise InputError(f"{files[0]} can't be read as an image: write it again.")
    return FrameFolder(folder, files, (found[1], found[0]))


def frames_of(frames: Path | str | None, name: str, alone: bool = False) -> Path | None:
    """The folder of a sequence among the frames that the user gave; None if none were given.

    Args:
        frames: FRAMES/<sequence>, FRAMES/<resolution>/<sequence> and both under FRAMES/JPEGImages are looked
            for.
        name: of the sequence.
        alone: it is the only one: FRAMES may be its folder itself.

    Raises:
        InputError: There is no such folder, or there are several.
    """
    if frames is None:
        return None
    root = Path(frames)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the one that has a folder of frames per sequence.")
    near = [folder for folder in (root / name, root / "JPEGImages" / name) if folder.is_dir()]
    found = near[:1] or _at_resolutions(root / "JPEGImages", name) or _at_resolutions(root, name)
    if not found and alone and has_pictures(root):
        return root
    return _only(found, root, name, f"{root} has no frames of {name}: put them into a folder of that name.")


def has_pictures(folder: Path) -> bool:
    """Whether a folder has frames."""
    return any(file.suffix.lower() in SUFFIXES and not file.name.startswith(".") for file in folder.iterdir())


def in_order_of_frames(labels: Path, truth: dict[int, Any], frames: FrameFolder) -> dict[int, Any]:
    """What a label file says, in order, each of it of a frame of the folder.

    Args:
        labels: the file.
        truth: labels by frame number, as read from it.
        frames: its frames.

    Raises:
        InputError: A number that no frame has, or a COCO file of other pictures.
    """
    if head(labels, "labels").lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        images = json.loads(labels.read_text(encoding="utf-8-sig")).get("images", [])
        named = {Path(str(image.get("file_name", ""))).stem for image in images}
        counted = any(type(image.get("frame_index")) is not int for image in images)
        if counted and len(images) != len(frames.files) and not named & {file.stem for file in frames.files}:
            raise InputError(
                f"{labels} lists {len(images)} pictures without frame_index, but {frames.path} has "
                f"{len(frames.files)}, none of which has such a name: give the folder of just these pictures."
            )
    for number in truth:
        require_frame(labels, number, frames)
    return dict(sorted(truth.items()))


def require_frame(labels: Path, number: int, frames: FrameFolder) -> None:
    """Check that a frame number of a label file is one of its frames.

    Raises:
        InputError: There is no such frame.
    """
    if not 0 <= number < len(frames.files):
        raise InputError(f"{labels} labels frame {number}, but {frames.path} has {len(frames.files)} frames.")


def _beside(labels: Path) -> Path:
    name, images = labels.stem, labels.parent.parent / "JPEGImages"
    found = _at_resolutions(images, name)
    if not found and has_pictures(labels.parent):
        return labels.parent
    advice = f"put them in a folder like 480p/{name} there, or give theirs."
    return _only(found, images, name, f"{images} has no frames of {name}: {advice}")


def _at_resolutions(images: Path, name: str) -> list[Path]:
    folders = sorted(images.iterdir()) if images.is_dir() else []
    return [folder / name for folder in folders if (folder / name).is_dir()]


def _only(found: list[Path], root: Path, name: str, missing: str) -> Path:
    if not found:
        raise InputError(missing)
    if len(found) > 1:
        several = ", ".join(path.parent.name for path in found)
        raise InputError(f"{root} has {name} at several resolutions ({several}): give the folder of one.")
    return found[0]


def _wanted_size(meta: Path) -> tuple[int, int] | None:
    """`(width, height)` that a file beside the labels asks for; None if it doesn't."""
    if not meta.is_file():
        return None
    try:
        size = json.loads(meta.read_text(encoding="utf-8")).get("image_size")
        if size is None:
            return None
        width, height = map(int, size)
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{meta} can't be read: it is JSON like {{'image_size': [width, height]}}."
        ) from error
    return width, height

"""Where the frames of a file of keypoints or boxes are.

ROOT/Keypoints/<sequence>.csv or ROOT/Boxes/<sequence>.csv
ROOT/<kind>/<sequence>.meta.json                      optional; its "image_size" is [width, height]
ROOT/JPEGImages/<resolution>/<sequence>/00000.jpg ...
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pretrain.errors import InputError
from vidtrack.video.folder import list_images
from vidtrack.video.images import image_size


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
    files = tuple(list_images(folder))
    found = image_size(files[0])
    if found is None:
        raise InputError(f"{files[0]} can't be read as an image: write it again.")
    wanted = _wanted_size(labels.with_suffix(".meta.json"))
    if wanted not in (None, found):
        raise InputError(
            f"{files[0]} has {found[0]}x{found[1]} pixels, but {labels} was made for "
            f"{wanted[0]}x{wanted[1]}: give the folder of the frames that were labelled."
        )
    return FrameFolder(folder, files, (found[1], found[0]))


def require_frame(labels: Path, number: int, frames: FrameFolder) -> None:
    """Check that a frame number of a label file is one of its frames.

    Raises:
        InputError: There is no such frame.
    """
    if not 0 <= number < len(frames.files):
        raise InputError(f"{labels} labels frame {number}, but {frames.path} has {len(frames.files)} frames.")


def _beside(labels: Path) -> Path:
    name, images = labels.stem, labels.parent.parent / "JPEGImages"
    found = sorted(path for path in images.glob(f"*/{name}") if path.is_dir())
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{images} has no frames of {name}: put them in a folder like 480p/{name} there, or give theirs."
        )
    several = ", ".join(path.parent.name for path in found)
    raise InputError(f"{images} has {name} at several resolutions ({several}): give the folder of one.")


def _wanted_size(meta: Path) -> tuple[int, int] | None:
    """`(width, height)` that a file beside the labels asks for; None if it doesn't."""
    if not meta.is_file():
        return None
    try:
        size = json.loads(meta.read_text(encoding="utf-8")).get("image_size")
        if size is None:
            return None
        width, height = map(int, size)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{meta} can't be read: it is JSON like {{'image_size': [width, height]}}."
        ) from error
    return width, height

"""Soft maps of a frame in an `.npz`: the probabilities before each pixel was given to one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.npz import open_npz

_VERSION = 1
_SLACK = 1e-3  # by which sums of rounded probabilities may leave 0..1


@dataclass(eq=False)
class SoftMaps:
    """The label map of a frame at cells.

    Attributes:
        labels: float32 `[K, h, w]`, probabilities 0..1: background, then `objects`.
        objects: ids of the channels after the first.
        size: `(height, width)` of the frame in pixels.
        working: `(height, width)` at which cells were made; the cells are its grid, padded to whole cells.
        stride: pixels of the working size per cell.
    """

    labels: np.ndarray
    objects: list[int]
    size: tuple[int, int]
    working: tuple[int, int]
    stride: int

    def to_pixels(self) -> np.ndarray:
        """The same maps at the frame's pixels, float32 `[K, H, W]`, by one bilinear step."""
        import torch

        from vidtrack.geometry import to_pixels

        return to_pixels(torch.from_numpy(self.labels), self.working, self.stride, self.size).numpy()


def save_soft(
    path: Path | str,
    labels: np.ndarray,
    objects: Sequence[int],
    size: tuple[int, int],
    *,
    working: tuple[int, int] | None = None,
    stride: int = 8,
    overwrite: bool = False,
) -> None:
    """Write the soft maps of a frame.

    They are kept at cells as float16, compressed: pixels hold nothing that the cells don't, in 64 times as
    many numbers. A value is off by at most 1/4096 (probabilities are at most 1, float16 has 11 digits).

    Args:
        path: named `.npz`.
        labels: float `[K, h, w]`, probabilities 0..1: background, then `objects`.
        objects: ids of the channels after the first.
        size: `(height, width)` of the frame in pixels.
        working: `(height, width)` at which cells were made; None: `size`.
        stride: pixels of the working size per cell.
        overwrite: replace an existing file.

    Raises:
        ValueError: shapes that don't fit each other, or values outside 0..1.
        InputError: `path` is not named .npz, exists, or can't be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path} is not named .npz: soft maps are written as .npz only.")
    working = size if working is None else working
    _check(labels, list(objects), working, stride)
    with atomic_file(path, overwrite) as partial:
        try:
            np.savez_compressed(
                partial,
                version=np.int32(_VERSION),
                labels=labels.clip(0, 1).astype(np.float16),
                objects=np.array(objects, np.uint8),
                size=np.array(size, np.int32),
                working=np.array(working, np.int32),
                stride=np.int32(stride),
            )
        except OSError as error:
            raise InputError(f"{path} can't be written ({error.strerror}): choose another output.") from error


def load_soft(path: Path | str) -> SoftMaps:
    """Read what `save_soft` wrote.

    Raises:
        InputError: no such file, or not one of soft maps.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .npz of soft maps.")
    try:
        with open_npz(path) as file:
            values = {
                name: file[name] for name in ("version", "labels", "objects", "size", "working", "stride")
            }
        if int(values["version"]) != _VERSION:
            raise InputError(f"{path} is of a newer vidtrack: use that to read it.")
        height, width = (int(v) for v in values["size"])
        rows, columns = (int(v) for v in values["working"])
        maps = SoftMaps(
            values["labels"].astype(np.float32),
            [int(i) for i in values["objects"]],
            (height, width),
            (rows, columns),
            int(values["stride"]),
        )
        _check(maps.labels, maps.objects, maps.working, maps.stride)
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise nearly anything for damaged files
        raise InputError(f"{path} is damaged or no file of soft maps: write it again.") from error
    return maps


def _check(labels: np.ndarray, objects: list[int], working: tuple[int, int], stride: int) -> None:
    from vidtrack.geometry import cells

    grid = (cells(working[0], stride), cells(working[1], stride)) if stride > 0 else None
    if labels.ndim != 3 or labels.dtype.kind != "f" or labels.shape != (1 + len(objects), *(grid or ())):
        raise ValueError(
            f"{len(objects)} objects at {list(working)} need float [{1 + len(objects)}, *{grid}], not"
            f" {labels.dtype} {list(labels.shape)}"
        )
    if not (labels.min() >= -_SLACK and labels.max() <= 1 + _SLACK):
        raise ValueError("probabilities must lie in 0..1")

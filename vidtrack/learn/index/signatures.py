"""What is compared of pictures: thumbnails, and 64 bits of each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 64  # pixels of the longer side of a thumbnail
REACH = 2  # thumbnail pixels by which things may move between two pictures without counting as a step
CELL = 4  # side in thumbnail pixels of the cells in which motion is looked for
FLAT = 4  # gray levels between neighbours of the 9 x 8 grid below which a difference says nothing
_KERNEL = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)


def thumb_size(width: int, height: int) -> tuple[int, int]:
    """`(width, height)` of the thumbnails of a video: the longer side is `SIDE`, the other at least 8."""
    scale = SIDE / max(width, height)
    return max(8, round(width * scale)), max(8, round(height * scale))


@dataclass(frozen=True, eq=False)
class Thumb:
    """A thumbnail, ready to be compared.

    Attributes:
        image: uint8 `[h, w, 3]` RGB.
        low: the least value near each pixel (`REACH`), the same shape.
        high: the greatest value near each pixel, the same shape.
    """

    image: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> Thumb:
        """The thumb of an image uint8 `[h, w, 3]`."""
        return cls(image, cv2.erode(image, _KERNEL), cv2.dilate(image, _KERNEL))


def step(one: Thumb, other: Thumb) -> float:
    """How far two pictures differ beyond small motion, in gray levels 0..255.

    A pixel counts by how far it lies outside the values near its place in the other picture; the mean of all
    pixels and both directions. Motion of up to `REACH` thumbnail pixels gives 0, apart from what appears.
    """
    return (_beyond(one.image, other) + _beyond(other.image, one)) / 2


def _beyond(image: np.ndarray, other: Thumb) -> float:
    return float(cv2.subtract(image, other.high).mean() + cv2.subtract(other.low, image).mean())


def change(one: Thumb, other: Thumb) -> float:
    """The largest change of a cell of `CELL` x `CELL` thumbnail pixels, in gray levels 0..255.

    The mean of the absolute differences in a cell, each between means of 2 x 2 pixels, so that noise averages
    out; and the largest of all cells, so that a small thing that moves counts.
    """
    apart = one.image.astype(np.float32) - other.image  # [h, w, 3]
    height, width = (side // CELL * CELL for side in apart.shape[:2])
    halves = (width // 2, height // 2)
    coarse = np.abs(cv2.resize(apart[:height, :width], halves, interpolation=cv2.INTER_AREA)).mean(axis=2)
    cells = cv2.resize(coarse, (width // CELL, height // CELL), interpolation=cv2.INTER_AREA)
    return float(cells.max())


def dhash(image: np.ndarray) -> int | None:
    """64 bits of a picture that survive encoding and resizing; None of a flat one, whose bits are noise.

    The picture is shrunk to 9 x 8 gray cells; a bit tells whether a cell is brighter than its left neighbour
    (Krawetz 2013, "Kind of Like That"). Flat: fewer than a quarter of the neighbours differ by `FLAT` levels.

    Args:
        image: uint8 `[h, w, 3]` RGB.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    differences = np.diff(small, axis=1)  # [8, 8]
    if (np.abs(differences) >= FLAT).mean() < 0.25:
        return None
    return int.from_bytes(np.packbits(differences > 0).tobytes(), "big")


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Differing bits of all pairs of hashes: uint64 `[n]` and `[m]` to uint8 `[n, m]`."""
    return np.bitwise_count(one[:, None] ^ other[None])

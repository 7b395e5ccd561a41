"""Black bars: borders of a shot that are black in all of its frames while the picture beside them is not.

A row belongs to a bar if it is black in every look, and the bar ends at a straight edge: within a few rows
most of the columns are brighter than black at some time of the shot. A dark scene has no such edge, so it is
left as it is; so is a film whose picture beside the bars stays black. Columns likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidtrack.learn.index.signatures import Thumb
from vidtrack.video.spans import Sight

ACROSS = 64  # parts in which a row or column is looked at
EDGE = 0.01  # of the side: within so much behind a bar the picture must have begun
LIT = 0.5  # of the parts of a row beside a bar that must be brighter than black
CLEAR = 8  # gray levels by which they must be brighter
LEAST = 0.25  # of each side that must be left of the picture: upright in wide leaves 0.316

Box = tuple[int, int, int, int]  # top, bottom, left, right: rows top..bottom-1, columns left..right-1


@dataclass(frozen=True, eq=False)
class Edges:
    """The brightest value of each part of each row and column, of one picture or of several.

    Attributes:
        rows: uint8 `[H, ACROSS]`.
        columns: uint8 `[W, ACROSS]`.
        dark: the picture has dark borders at all; where not, the arrays are empty.
    """

    rows: np.ndarray
    columns: np.ndarray
    dark: bool = True

    def __or__(self, other: Edges) -> Edges:
        """Of the pictures of both."""
        if not (self.dark and other.dark):
            return NONE
        return Edges(np.maximum(self.rows, other.rows), np.maximum(self.columns, other.columns))


NONE = Edges(np.empty((0, ACROSS), np.uint8), np.empty((0, ACROSS), np.uint8), dark=False)


def edges(sight: Sight, size: tuple[int, int], thumb: Thumb, level: int) -> Edges:
    """The edges of a picture; `NONE` where its thumbnail shows that no border is black.

    Args:
        sight: the picture.
        size: its width and height.
        thumb: its thumbnail.
        level: highest gray level of black.
    """
    small = thumb.image
    if min(small[0].max(), small[-1].max(), small[:, 0].max(), small[:, -1].max()) > level:
        return NONE
    width, height = size
    rows = sight.rgb((ACROSS, height)).max(axis=2)  # [H, ACROSS]
    columns = sight.rgb((width, ACROSS)).max(axis=2).T  # [W, ACROSS]
    return Edges(rows, columns)


def box(found: Edges, level: int) -> Box | None:
    """What is left of a shot without its bars, with even numbers; None where nothing is cropped.

    Args:
        found: of all pictures of the shot that were looked at.
        level: highest gray level of black.
    """
    if not found.dark:
        return None
    top, bottom = _span(found.rows, level)
    left, right = _span(found.columns, level)
    height, width = len(found.rows), len(found.columns)
    whole = (top, bottom, left, right) == (0, height, 0, width)
    if whole or bottom - top < LEAST * height or right - left < LEAST * width:
        return None
    return top, bottom, left, right


def _span(lines: np.ndarray, level: int) -> tuple[int, int]:
    """First line of the picture, and the one after its last, of `[n, ACROSS]`; all lines without bars."""
    begin, end = _bar(lines, level), len(lines) - _bar(lines[::-1], level)
    if begin >= end:  # black from one border to the other
        return 0, len(lines)
    return begin + begin % 2, end - end % 2 if end < len(lines) else end


def _bar(lines: np.ndarray, level: int) -> int:
    """How many of the first lines are a bar."""
    bright = (lines > level).any(axis=1)
    thickness = int(bright.argmax()) if bright.any() else len(lines)
    behind = lines[thickness : thickness + 2 + round(EDGE * len(lines))]
    lit = (behind > level + CLEAR).any(axis=0).mean() if len(behind) else 0.0
    return thickness if lit >= LIT else 0

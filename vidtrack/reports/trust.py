"""A picture of how far labels can be trusted: confidence over time, alarms, and what to annotate next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtrack.labels.palette import color as palette_color
from vidtrack.reports.text import luminance, printable, put_text, text_size

WIDTH, HEIGHT = 1200, 110  # pixels of the picture, and of the curve of one object
LEFT, RIGHT, TOP, GAP = 150, 24, 58, 26  # pixels around and between the curves
MOST = 12  # objects that are drawn: those that are trusted least
_INK, _GRAY, _PALE = (40, 40, 40), (120, 120, 120), (228, 228, 228)
_ALARM, _PROPOSED, _GIVEN = (255, 214, 208), (0, 110, 230), (20, 140, 60)
_TEXT = 11  # pixels of height of a digit


def draw_trust(
    confidence: Mapping[str, NDArray[np.float64]],
    annotated: Collection[int],
    alarms: Sequence[tuple[str, int, int]] = (),
    proposed: Sequence[int] = (),
    *,
    first: int = 0,
    names: Mapping[str, str] | None = None,
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """Draw a curve for each object, one below the other, over one axis of frames.

    Annotated frames are green triangles on the upper edge, alarms a red ground, and the frames to annotate
    next blue lines with their rank.

    Args:
        confidence: float `[T]` in 0..1 by object, nan where nothing is expected; T >= 1.
        annotated: positions of the annotated frames.
        alarms: object, first and last position of each.
        proposed: positions, the most useful first.
        first: number of the frame at position 0.
        names, colors: of objects, where they have any.

    Returns:
        uint8 `[h, 1200, 3]` RGB. Of more than 12 objects, those with the lowest mean are drawn.

    Raises:
        ValueError: no object, or curves of different length.
    """
    lengths = {len(values) for values in confidence.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"give curves of one length, at least 1; got lengths {sorted(lengths)}")
    length = lengths.pop()
    shown = _least_trusted(confidence)
    picture = np.full((TOP + len(shown) * (HEIGHT + GAP) + GAP, WIDTH, 3), 255, np.uint8)
    left_out = len(confidence) - len(shown)
    title = "confidence" + (f" of the {len(shown)} least trusted of {len(confidence)}" if left_out else "")
    _write(picture, title, LEFT, 20, _INK, _TEXT + 3)
    _legend(picture)
    for row, key in enumerate(shown):
        top = TOP + row * (HEIGHT + GAP)
        for name, begin, end in alarms:
            if name == key:
                left, right = _x(begin - 0.5, length), _x(end + 0.5, length)
                picture[top : top + HEIGHT, left : max(right, left + 2)] = _ALARM
        _axes(picture, top, length, first, last=row == len(shown) - 1)
        _marks(picture, top, length, annotated, proposed)
        number = int(key) if key.isdecimal() and 1 <= int(key) <= 254 else row + 1
        color = (colors or {}).get(key) or palette_color(number)
        _curve(picture, top, confidence[key], color)
        label = printable(f"{key} {(names or {}).get(key, '')}".strip())
        _write(picture, label[:14], 8, top + HEIGHT // 2, color if luminance(color) < 128 else _INK)
    return picture


def _least_trusted(confidence: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Keys in their order; if there are too many, those with the lowest mean."""
    keys = list(confidence)
    if len(keys) <= MOST:
        return keys
    means = {key: _mean(confidence[key]) for key in keys}
    worst = set(sorted(keys, key=lambda key: means[key])[:MOST])
    return [key for key in keys if key in worst]


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 1.0


def _x(position: float, length: int) -> int:
    """Column of a frame."""
    inside = min(max(position, 0.0), length - 1.0)
    return LEFT + round(inside / max(1, length - 1) * (WIDTH - LEFT - RIGHT))


def _y(value: float, top: int) -> int:
    """Row of a confidence."""
    return top + round((1 - min(max(value, 0.0), 1.0)) * (HEIGHT - 1))


def _axes(picture: np.ndarray, top: int, length: int, first: int, last: bool) -> None:
    for value in (0.0, 0.5, 1.0):
        y = _y(value, top)
        cv2.line(picture, (LEFT, y), (WIDTH - RIGHT, y), _PALE if value == 0.5 else _GRAY, 1)
        _write(picture, f"{value:g}", LEFT - 30, y, _GRAY, _TEXT - 2)
    if last:
        for position in sorted({round(p) for p in np.linspace(0, length - 1, min(length, 9))}):
            x = _x(position, length)
            cv2.line(picture, (x, top + HEIGHT), (x, top + HEIGHT + 4), _GRAY, 1)
            put_text(picture, str(first + position), (x, top + HEIGHT + 15), _TEXT - 2, _INK)


def _marks(
    picture: np.ndarray, top: int, length: int, annotated: Collection[int], proposed: Sequence[int]
) -> None:
    for position in annotated:
        x = _x(position, length)
        corners = np.array([[x - 5, top - 8], [x + 5, top - 8], [x, top]], np.int32)
        cv2.fillPoly(picture, [corners], _GIVEN, cv2.LINE_AA)
    for rank, position in enumerate(proposed, start=1):
        x = _x(position, length)
        for y in range(top, top + HEIGHT, 6):
            cv2.line(picture, (x, y), (x, min(y + 2, top + HEIGHT - 1)), _PROPOSED, 1)
        put_text(picture, str(rank), (x, top - 8), _TEXT - 2, _PROPOSED)


def _curve(picture: np.ndarray, top: int, values: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    """A line through the known values, with a gap where nothing is expected."""
    run: list[tuple[int, int]] = []
    for position, value in enumerate([*values, np.nan]):
        if not np.isnan(value):
            run.append((_x(position, len(values)), _y(value, top)))
            continue
        if len(run) == 1:
            cv2.circle(picture, run[0], 2, color, cv2.FILLED, cv2.LINE_AA)
        elif run:
            cv2.polylines(picture, [np.array(run, np.int32)], False, color, 2, cv2.LINE_AA)
        run = []


def _legend(picture: np.ndarray) -> None:
    x, y = WIDTH - RIGHT - 430, 20
    cv2.fillPoly(picture, [np.array([[x - 5, y - 4], [x + 5, y - 4], [x, y + 4]], np.int32)], _GIVEN)
    _write(picture, "annotated", x + 10, y, _INK)
    picture[y - 6 : y + 6, x + 130 : x + 144] = _ALARM
    _write(picture, "alarm", x + 150, y, _INK)
    for at in range(y - 6, y + 6, 4):
        cv2.line(picture, (x + 240, at), (x + 240, at + 1), _PROPOSED, 1)
    _write(picture, "annotate next", x + 248, y, _INK)


def _write(
    picture: np.ndarray, text: str, left: int, y: int, color: tuple[int, int, int], height: int = _TEXT
) -> None:
    """Text that begins at a column."""
    put_text(picture, text, (left + text_size(text, height)[0] / 2, y), height, color)

"""Black bars are cropped to the row, and dark pictures are left alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np
import pytest

from vidtrack.learn.index.bars import NONE, Box, Edges, box, edges
from vidtrack.learn.index.signatures import Thumb, thumb_size
from vidtrack.video.spans import Sight

LEVEL = 24


def edges_of(picture: np.ndarray) -> Edges:
    def rgb(size: tuple[int, int] | None) -> np.ndarray:
        return picture if size is None else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

    size = (picture.shape[1], picture.shape[0])
    return edges(Sight(Fraction(0), rgb), size, Thumb.of(rgb(thumb_size(*size))), LEVEL)


def box_of(pictures: list[np.ndarray]) -> Box | None:
    found = edges_of(pictures[0])
    for picture in pictures[1:]:
        found = found | edges_of(picture)
    return box(found, LEVEL)


def barred(pictures: list[np.ndarray], bars: Box) -> list[np.ndarray]:
    """Frames of 320 x 240 with black but for the box, with a little noise."""
    top, bottom, left, right = bars
    rng = np.random.default_rng(0)
    out = []
    for picture in pictures:
        frame = rng.integers(0, 12, (240, 320, 3)).astype(np.uint8)
        frame[top:bottom, left:right] = cv2.resize(picture, (right - left, bottom - top))
        out.append(frame)
    return out


@pytest.mark.parametrize(
    ("bars", "kept"),
    [
        ((30, 210, 0, 320), (30, 210, 0, 320)),  # letterbox
        ((0, 240, 41, 279), (0, 240, 42, 278)),  # pillars of odd width: cropped to even ones
        ((20, 240, 16, 304), (20, 240, 16, 304)),  # not on all sides
        ((0, 240, 0, 320), None),
        ((0, 240, 110, 210), (0, 240, 110, 210)),  # an upright video in a wide one
        ((95, 145, 0, 320), None),  # too little would be left
    ],
)
def test_the_box_is_what_is_not_black(scene: Callable, bars: Box, kept: Box | None) -> None:
    assert box_of(barred(scene(0, 4, 8.0), bars)) == kept


def test_one_picture_with_more_in_it_makes_the_box_larger(scene: Callable) -> None:
    bars = (30, 210, 0, 320)
    pictures = barred(scene(0, 4), bars)
    assert box_of([*pictures, *barred(scene(0, 1), (20, 210, 0, 320))]) == (20, 210, 0, 320)
    assert box_of([*pictures, *barred(scene(0, 1), (0, 240, 0, 320))]) is None


def test_dark_scenes_stay_whole(scene: Callable) -> None:
    night = np.zeros((240, 320, 3), np.uint8)
    night[40:60, 20:40] = night[180:200, 280:300] = 200  # lamps
    assert box_of([night]) is None
    glow = np.minimum(255, np.hypot(*np.mgrid[-120:120, -160:160])[..., None].repeat(3, 2))
    assert box_of([(255 - glow).clip(0, 255).astype(np.uint8) // 3]) is None  # dark towards the borders
    assert box_of([np.zeros((240, 320, 3), np.uint8)]) is None
    dim = [picture // 12 for picture in barred(scene(0, 3), (30, 210, 0, 320))]
    assert box_of(dim) is None  # nothing tells the bars from the picture


def test_bright_borders_cost_nothing(scene: Callable) -> None:
    assert edges_of(scene(0, 1)[0]) is NONE
    assert (NONE | edges_of(barred(scene(0, 1), (30, 210, 0, 320))[0])) is NONE

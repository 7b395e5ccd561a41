"""The picture of confidences: what is drawn where."""

import numpy as np
import pytest

from vidtrack.labels.palette import color
from vidtrack.reports.trust import (
    _ALARM,
    _GIVEN,
    _PROPOSED,
    GAP,
    HEIGHT,
    LEFT,
    MOST,
    RIGHT,
    TOP,
    WIDTH,
    draw_trust,
)

T = 101


def has(picture: np.ndarray, wanted: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(wanted, np.uint8)).all(axis=-1)


def column(position: float) -> int:
    return LEFT + round(position / (T - 1) * (WIDTH - LEFT - RIGHT))


def test_the_curve_stands_at_its_values() -> None:
    values = np.full(T, 0.75)
    values[50:60] = np.nan
    picture = draw_trust({"1": values}, [])
    assert picture.shape == (TOP + HEIGHT + 2 * GAP, WIDTH, 3) and picture.dtype == np.uint8
    drawn = has(picture, color(1))[TOP : TOP + HEIGHT]
    rows = np.flatnonzero(drawn[:, column(20)])
    assert abs(rows.mean() - 0.25 * (HEIGHT - 1)) <= 1
    assert drawn[:, column(49)].any() and drawn[:, column(60)].any()
    assert not drawn[:, column(51) : column(59)].any()


def test_marks_are_at_their_frames() -> None:
    picture = draw_trust({"1": np.ones(T), "2": np.ones(T)}, [0, 30], [("2", 70, 80)], [50])
    second = slice(TOP + HEIGHT + GAP, TOP + 2 * HEIGHT + GAP)
    red = has(picture, _ALARM)
    assert not red[TOP : TOP + HEIGHT].any()
    columns = np.flatnonzero(red[second].any(axis=0))
    assert abs(columns[0] - column(69.5)) <= 1 and abs(columns[-1] - column(80.5)) <= 1
    blue = np.flatnonzero(has(picture, _PROPOSED)[TOP + 5 : TOP + HEIGHT].any(axis=0))
    assert blue.tolist() == [column(50)]
    green = has(picture, _GIVEN)[TOP - 8 : TOP]
    assert green[:, column(30)].any() and green[:, column(0)].any() and not green[:, column(70)].any()


def test_many_objects_and_short_videos() -> None:
    rng = np.random.default_rng(0)
    many = {str(n): np.full(5, n / 40) for n in range(1, 41)}
    picture = draw_trust(many, [0], names={"1": "größter Hund"}, colors={"1": (1, 2, 3)})
    assert picture.shape[0] == TOP + MOST * (HEIGHT + GAP) + GAP
    assert has(picture, (1, 2, 3)).any()  # the least trusted are shown
    assert not has(picture[:, LEFT:], color(40)).any()
    assert draw_trust({"left": rng.random(1)}, [0], [("left", 0, 0)], [0]).any()
    assert draw_trust({"1": np.full(3, np.nan)}, []).any()
    for wrong in ({}, {"1": np.zeros(0)}, {"1": np.zeros(2), "2": np.zeros(3)}):
        with pytest.raises(ValueError, match="one length"):
            draw_trust(wrong, [])

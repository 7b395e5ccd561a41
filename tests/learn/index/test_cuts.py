"""Hard cuts are found, and what looks like one is not."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np
import pytest

from vidtrack.learn.index.cuts import mark_cuts
from vidtrack.learn.index.looks import Look
from vidtrack.learn.index.signatures import Thumb


def found(pictures: list[np.ndarray], follows: Callable[[int], bool] = lambda i: i > 0) -> list[int]:
    """Numbers of the pictures before which a cut is seen."""
    looks = [
        Look(
            Fraction(i, 25), Thumb.of(cv2.resize(p, (64, 36), interpolation=cv2.INTER_AREA)), follows(i), None
        )
        for i, p in enumerate(pictures)
    ]
    marked = list(mark_cuts(looks, 6.0))
    assert [look for look, _ in marked] == looks
    return [i for i, (_, cut) in enumerate(marked) if cut]


@pytest.mark.parametrize("speed", [0.0, 1.0, 3.0])
def test_cuts_between_moving_scenes(scene: Callable, speed: float) -> None:
    pictures = scene(0, 12, speed) + scene(1, 9, speed) + scene(2, 6, speed) + scene(3, 12, speed)
    assert found(pictures) == [12, 21, 27]


def test_a_blended_frame_is_between_two_cuts(scene: Callable) -> None:
    one, other = scene(0, 12), scene(1, 12)
    blend = ((one[-1].astype(int) + other[0]) // 2).astype(np.uint8)
    assert found([*one, blend, *other]) == [12, 13]


def test_a_fast_pan_is_no_cut(scene: Callable) -> None:
    slow, fast = scene(0, 20), scene(0, 8, 25.0)
    assert found(slow[:12] + fast + scene(0, 8, 25.0)[::-1] + slow) == []
    assert found(scene(0, 16, 20.0)) == []


def test_repeated_frames_of_a_fast_pan_are_no_cuts(scene: Callable) -> None:
    assert found([picture for picture in scene(0, 10, 20.0) for _ in range(3)]) == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(scene: Callable, length: int) -> None:
    pictures = scene(0, 30)
    for i in range(14, 14 + length):
        pictures[i] = np.full_like(pictures[i], 250)
    assert found(pictures) == []


def test_light_that_goes_off_is_no_cut(scene: Callable) -> None:
    pictures = scene(0, 30, 0.5)
    assert found(pictures[:15] + [picture // 3 for picture in pictures[15:]]) == []


@pytest.mark.parametrize("length", [8, 15])
def test_fades_are_no_cuts(scene: Callable, length: int) -> None:
    one, other = scene(0, 20 + length), scene(1, 20 + length)
    parts = np.linspace(0, 1, length)
    blends = [(a * (1 - p) + b * p).astype(np.uint8) for a, b, p in zip(one[20:], other, parts, strict=False)]
    assert found(one[:20] + blends + other[length:]) == []


def test_frames_at_random_have_no_cuts() -> None:
    rng = np.random.default_rng(0)
    assert found([rng.integers(0, 255, (36, 64, 3)).astype(np.uint8) for _ in range(30)]) == []


def test_steps_over_frames_that_were_not_looked_at_do_not_count(scene: Callable) -> None:
    pictures = scene(0, 12) + scene(1, 12)
    assert found(pictures, lambda i: i not in (0, 12)) == []
    assert found(pictures, lambda i: i <= 12) == [12]  # nothing is known of the steps after it


def test_videos_of_a_few_frames_have_no_cuts(scene: Callable) -> None:
    assert found(scene(0, 1)) == found(scene(0, 1) + scene(1, 1)) == found(scene(0, 2) + scene(1, 20)) == []
    assert found([]) == []

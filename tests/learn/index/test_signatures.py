"""What thumbnails tell of two pictures, compared with loops over pixels."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from vidtrack.learn.index.signatures import CELL, REACH, Thumb, change, dhash, distances, step, thumb_size


@pytest.mark.parametrize(
    ("size", "thumb"), [((1920, 1080), (64, 36)), ((256, 456), (36, 64)), ((2000, 100), (64, 8))]
)
def test_thumbs_keep_the_aspect(size: tuple[int, int], thumb: tuple[int, int]) -> None:
    assert thumb_size(*size) == thumb


def slow_step(one: np.ndarray, other: np.ndarray) -> float:
    total = 0.0
    height, width, channels = one.shape
    for a, b in ((one, other), (other, one)):
        for y, x, c in np.ndindex(height, width, channels):
            near = b[max(0, y - REACH) : y + REACH + 1, max(0, x - REACH) : x + REACH + 1, c].astype(int)
            total += max(0, int(a[y, x, c]) - near.max(), near.min() - int(a[y, x, c]))
    return total / one.size / 2


def test_step_is_the_mean_distance_from_the_values_nearby() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 255, (9, 12, 3)).astype(np.uint8) for _ in range(2))
    other //= 3
    assert step(Thumb.of(one), Thumb.of(other)) == pytest.approx(slow_step(one, other))


def test_small_motion_is_no_step(scene: Callable) -> None:
    first, second, other = scene(0, 1), scene(0, 3), scene(1, 1)
    one, moved, cut = (Thumb.of(part[-1]) for part in (first, second, other))
    assert step(one, moved) < 1 < 20 < step(one, cut)


def test_change_is_that_of_the_busiest_cell() -> None:
    one = np.zeros((36, 64, 3), np.uint8)
    other = one.copy()
    other[8 : 8 + CELL, 12 : 12 + CELL // 2] = 100
    assert change(Thumb.of(one), Thumb.of(other)) == pytest.approx(50)


def test_hashes_survive_encoding_and_resizing(scene: Callable) -> None:
    (picture,), (other,) = scene(0, 1), scene(1, 1)
    done, data = cv2.imencode(".jpg", cv2.resize(picture, (60, 40)), [cv2.IMWRITE_JPEG_QUALITY, 40])
    assert done
    hashes = [dhash(p) for p in (picture, cv2.imdecode(data, cv2.IMREAD_COLOR), other)]
    one, again, third = (np.array([h], np.uint64) for h in hashes)
    assert distances(one, again)[0, 0] <= 4
    assert distances(one, third)[0, 0] > 15
    assert distances(one, third)[0, 0] == bin(hashes[0] ^ hashes[2]).count("1")


def test_a_ramp_has_all_bits_and_a_flat_picture_none() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 90)[None, :, None], (80, 90, 3)).astype(np.uint8)
    assert dhash(ramp) == 2**64 - 1
    assert dhash(ramp[:, ::-1]) == 0
    noise = np.random.default_rng(0).integers(60, 70, (80, 90, 3)).astype(np.uint8)
    assert dhash(noise) is None

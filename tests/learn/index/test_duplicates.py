"""Duplicates are found by what they show and when; compared with a search through all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from vidtrack.learn.index.duplicates import find_duplicates

Hashes = list[int | None]


def drift(rng: np.random.Generator, length: int, bits: int = 3) -> Hashes:
    """Hashes of a moving camera: a few other bits at each step."""
    value = int(rng.integers(0, 2**63))
    out: Hashes = []
    for _ in range(length):
        out.append(value)
        for bit in rng.integers(0, 64, bits):
            value ^= 1 << int(bit)
    return out


def noisy(rng: np.random.Generator, hashes: Hashes, bits: int) -> Hashes:
    """The same with up to `bits` wrong bits each."""
    out: Hashes = []
    for value in hashes:
        for bit in rng.integers(0, 64, bits):
            value = None if value is None else value ^ 1 << int(bit)
        out.append(value)
    return out


@pytest.mark.parametrize("bits", [0, 2, 4])
@pytest.mark.parametrize("part", [slice(None), slice(7, 31), slice(20, None)])
def test_a_copy_is_found(bits: int, part: slice) -> None:
    rng = np.random.default_rng(bits)
    shots = [drift(rng, 40) for _ in range(5)]
    assert find_duplicates([*shots, noisy(rng, shots[3][part], bits)], 6) == {5: 3}


def test_a_longer_shot_is_no_copy_of_its_part_and_all_copies_name_the_first() -> None:
    rng = np.random.default_rng(0)
    long = drift(rng, 60)
    assert find_duplicates([long[:25], long], 6) == {}
    assert find_duplicates([long, long[:25], long[30:], long], 6) == {1: 0, 2: 0, 3: 0}


def test_other_videos_of_a_still_camera_are_no_copies() -> None:
    """All of their pictures are nearly the same, at any shift in time."""
    rng = np.random.default_rng(0)
    still: Hashes = [12345] * 40
    assert find_duplicates([noisy(rng, still, 3) for _ in range(20)] + [still, still], 6) == {}


def test_the_same_places_in_another_order_are_no_copy() -> None:
    rng = np.random.default_rng(0)
    shot = drift(rng, 40)
    assert find_duplicates([shot, shot[::-1]], 6) == {}


def test_flat_pictures_do_not_count() -> None:
    rng = np.random.default_rng(0)
    shot = drift(rng, 40)
    gaps: Hashes = [None if i % 3 == 0 else value for i, value in enumerate(shot)]
    assert find_duplicates([shot, gaps], 6) == {1: 0}
    assert find_duplicates([[None] * 40, [None] * 40, [*shot[:5], *[None] * 35], shot[:5]], 6) == {}


def test_copies_among_many_shots() -> None:
    rng = np.random.default_rng(0)
    shots = [drift(rng, 20) for _ in range(300)]
    copies = rng.permutation(300)[:30].tolist()
    found = find_duplicates(shots + [noisy(rng, shots[i], 2) for i in copies], 6)
    assert found == {300 + place: number for place, number in enumerate(copies)}

"""Shots that show what another shot shows, encoded again, resized or shortened.

Pictures alone don't tell: all videos of a camera that stands still look the same. So two shots must go in
step: laid over each other at one shift in time, most pictures have nearly the same hash, and they are at
least four times as close as pictures of the two at other shifts. Flat pictures, which have no hash, don't
count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from vidtrack.learn.index.signatures import distances

FEWEST = 8  # pictures that a shot must have with a hash
MOST = 0.7  # of the pictures of a shot that must be found in the other
NEARER = 0.25  # of the mean distance at other shifts that the mean distance may be
ELSEWHERE = 8  # pictures by which a shift is another one
_SAMPLES = 64  # pictures of a shot that are looked for
_BANDS = 4  # parts of a hash by which shots are found that are worth comparing
_SHARED = 0.1  # of the parts of all hashes of a shot that the other must have, too
_CROWD = 8  # shots that are remembered for the same part of a hash
_COMPARED = 16  # shots with which one is compared, those with most parts in common

Hashes = Sequence[int | None]


def find_duplicates(shots: Sequence[Hashes], bits: int) -> dict[int, int]:
    """Which shots show what an earlier one shows: the number of each, and of that other one.

    The time goes with the number of shots, not with its square.

    Args:
        shots: the hashes of each, evenly spaced in time; first the shot that is to be kept.
        bits: of 64 by which pictures may differ.
    """
    found: dict[int, int] = {}
    known: dict[int, _Series] = {}
    holders: defaultdict[int, list[int]] = defaultdict(list)  # part of a hash -> shots that have it
    for number, hashes in enumerate(shots):
        series = _Series(hashes)
        if len(series.hashes) < FEWEST:
            continue
        parts = series.parts()
        common = Counter(other for part in parts for other in holders.get(part, ()))
        for other, shared in common.most_common(_COMPARED):
            if shared >= _SHARED * len(parts) and _same(series, known[other], bits):
                found[number] = other
                break
        else:
            known[number] = series
            for part in parts:
                if len(holders[part]) < _CROWD:
                    holders[part].append(number)
    return found


class _Series:
    """The hashes of a shot that are known: uint64 `[n]`, and their places in time, int64 `[n]`."""

    def __init__(self, hashes: Hashes) -> None:
        kept = [(place, value) for place, value in enumerate(hashes) if value is not None]
        self.places = np.array([place for place, _ in kept], np.int64)
        self.hashes = np.array([value for _, value in kept], np.uint64)

    def parts(self) -> list[int]:
        """The parts of all hashes, each with the number of its band, without repetition."""
        width = 64 // _BANDS
        mask = np.uint64((1 << width) - 1)
        bands = [((self.hashes >> np.uint64(width * i)) & mask).astype(np.int64) for i in range(_BANDS)]
        return np.unique(np.concatenate([band + (i << width) for i, band in enumerate(bands)])).tolist()


def _same(one: _Series, other: _Series, bits: int) -> bool:
    """Whether `one` shows what a part of `other` shows."""
    chosen = np.unique(np.linspace(0, len(one.hashes) - 1, _SAMPLES).round().astype(int))
    apart = distances(one.hashes[chosen], other.hashes).astype(np.int64)  # [n, m]
    shift = other.places[None] - one.places[chosen][:, None]  # [n, m]
    lowest = int(shift.min())
    at = (shift - lowest).ravel()
    near = np.bincount(at, (apart <= bits).ravel())  # per shift: pictures that are the same
    count, total = np.bincount(at), np.bincount(at, apart.ravel())
    fitting = near >= MOST * len(chosen)
    if not fitting.any():
        return False
    mean = np.where(fitting, total / np.maximum(count, 1), np.inf)
    best = int(mean.argmin())
    far = np.abs(np.arange(len(count)) - best) >= ELSEWHERE
    if not count[far].sum():
        return False
    # Half a bit of room: shots in which hardly a bit changes can't be told from each other.
    return bool(mean[best] + 0.5 <= NEARER * total[far].sum() / count[far].sum())

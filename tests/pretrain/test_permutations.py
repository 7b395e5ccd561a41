"""The answers to jigsaw puzzles: how far apart they are, against a slow search."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest

from pretrain.permutations import distances, every_permutation, permutation_set


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return sum(int(a) != int(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("tiles", [1, 2, 4, 6])
def test_every_permutation_is_there_once(tiles: int) -> None:
    found = [tuple(int(tile) for tile in row) for row in every_permutation(tiles)]
    assert len(found) == factorial(tiles) and set(found) == set(permutations(range(tiles)))


def test_distances_count_differing_places() -> None:
    chosen = np.random.default_rng(0).permuted(np.tile(np.arange(9), (6, 1)), axis=1)
    assert distances(chosen).tolist() == [[apart(one, other) for other in chosen] for one in chosen]


@pytest.mark.parametrize(("count", "smallest"), [(2, 9), (9, 9), (10, 8), (72, 7), (100, 6)])
def test_nine_tiles_have_the_stated_distance(count: int, smallest: int) -> None:
    for seed in range(2):
        chosen = permutation_set(count, seed=seed)
        assert chosen.shape == (count, 9) and (np.sort(chosen, axis=1) == np.arange(9)).all()
        between = distances(chosen)[np.triu_indices(count, 1)]
        assert between.min() == smallest and between.mean() >= 8


@pytest.mark.parametrize("seed", range(3))
def test_each_is_the_farthest_from_those_before(seed: int) -> None:
    chosen = permutation_set(factorial(4), tiles=4, seed=seed)
    for number in range(1, len(chosen)):
        before = chosen[:number]

        def rank(one: np.ndarray, before: np.ndarray = before) -> tuple[int, int]:
            each = [apart(one, other) for other in before]
            return min(each), sum(each)

        assert rank(chosen[number]) == max(rank(np.array(one)) for one in permutations(range(4)))
    assert len(np.unique(chosen, axis=0)) == factorial(4)  # all of them, none twice


def test_the_set_is_that_of_the_seed() -> None:
    first = permutation_set(20, tiles=6, seed=1)
    assert np.array_equal(first, permutation_set(20, tiles=6, seed=1))
    assert not np.array_equal(first, permutation_set(20, tiles=6, seed=2))
    assert np.array_equal(first[:5], permutation_set(5, tiles=6, seed=1))


@pytest.mark.parametrize("count", [0, 7])
def test_there_must_be_so_many(count: int) -> None:
    with pytest.raises(ValueError, match="6 permutations of 3"):
        permutation_set(count, tiles=3)

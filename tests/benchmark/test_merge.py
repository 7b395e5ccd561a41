"""Runs put together: conflicts go to the larger soft value, the same as if all were up-sampled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.benchmark.merge import SoftMasks, extent, merge_runs
from vidtrack.benchmark.task import Run
from vidtrack.geometry import cells, to_pixels, working_size
from vidtrack.labels.masks import Masks

from .conftest import SIZE, save_palette

NOTHING = np.zeros(SIZE, np.uint8)


def write_run(folder, run, index, ids, soft=None, **more):
    save_palette(folder / run.name / f"{index:05d}.png", ids)
    if soft is not None:
        objects = np.array(run.annotations[run.start].objects, np.int64)
        np.savez(
            folder / run.name / f"{index:05d}.npz", labels=soft.astype(np.float16), objects=objects, **more
        )


def runs_of(*objects, starts=(0, 2)):
    return [
        Run(f"from-{start:05d}", {start: Masks(np.array([ids], np.uint8))}, start=start, soft=True)
        for start, ids in zip(starts, objects, strict=True)
    ]


@pytest.mark.parametrize(
    ("original", "side"), [((48, 64), None), ((45, 61), None), ((108, 192), 48), ((90, 61), 40)]
)
def test_conflicts_go_to_the_larger_value(tmp_path, original, side):
    """Against up-sampling everything with `geometry.to_pixels`: ids 3 and 5 of a run, 4 of another."""
    rng = np.random.default_rng(1)
    working = working_size(*original, side)
    grid = cells(working[0], 8), cells(working[1], 8)
    runs, index = runs_of([3, 5], [4]), 7
    claims = [rng.choice([0, 3, 5], original), rng.choice([0, 4], original)]
    maps = [rng.random((*grid, k)).astype(np.float16) for k in (3, 2)]
    for run, ids, soft in zip(runs, claims, maps, strict=True):
        write_run(tmp_path, run, index, ids.astype(np.uint8), soft, working=working, stride=8)
    full = [
        to_pixels(torch.from_numpy(soft.astype(np.float64)).permute(2, 0, 1), working, 8, original).numpy()
        for soft in maps
    ]
    expected = np.zeros(original, np.uint8)
    for y, x in np.ndindex(original):
        first, second = claims[0][y, x], claims[1][y, x]
        values = {first: full[0][{0: 0, 3: 1, 5: 2}[first], y, x], second: full[1][second // 4, y, x]}
        expected[y, x] = max((id_ for id_ in values if id_), key=values.get, default=0)
    got = merge_runs(tmp_path, runs[::-1], index, f"{index:05d}", original)
    np.testing.assert_array_equal(got, expected)
    assert {0, 3, 4, 5} == set(np.unique(got))


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(9, 90), st.integers(9, 90)),
    st.sampled_from([None, 16, 40, 64]),
    st.integers(0, 2**16),
)
def test_single_pixels_are_those_of_to_pixels(tmp_path_factory, original, side, seed):
    rng = np.random.default_rng(seed)
    working = working_size(*original, side)
    grid = cells(working[0], 8), cells(working[1], 8)
    labels = rng.random((*grid, 2))
    soft = SoftMasks(labels, np.full(256, 1), (working[0] / 8, working[1] / 8), original)
    y, x = (axis.ravel() for axis in np.indices(original))
    full = to_pixels(torch.from_numpy(labels).permute(2, 0, 1), working, 8, original)[1].numpy()
    np.testing.assert_allclose(soft.at(np.ones(len(y), np.uint8), y, x), full.ravel(), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "side", "stride"),
    [
        ((480, 854), 480, 8),
        ((1080, 1920), 480, 8),
        ((720, 1280), 480, 8),
        ((1920, 1080), 480, 8),
        ((480, 854), None, 16),
        ((333, 517), None, 4),
        ((375, 500), None, 8),
    ],
)
def test_the_grid_tells_where_cells_are(size, side, stride):
    """Without `working` in the file. Rounding of the working size: below a tenth of a cell over the frame."""
    working = working_size(*size, side)
    grid = cells(working[0], stride), cells(working[1], stride)
    assert extent(size, grid) == pytest.approx((working[0] / stride, working[1] / stride), abs=0.1)
    assert extent((100, 100), (7, 9)) == (7, 9)  # nothing fits: the grid covers the frame


def test_who_wins_without_values(tmp_path):
    runs = runs_of([1], [2])
    one, two = np.ones(SIZE, np.uint8), np.full(SIZE, 2, np.uint8)
    low, high = (np.full((3, 4, 2), value) for value in (0.2, 0.9))

    def merged(index):
        return merge_runs(tmp_path, runs[::-1], index, f"{index:05d}", SIZE)

    write_run(tmp_path, runs[0], 1, one)
    assert (merged(1) == 1).all()  # the second hasn't started
    write_run(tmp_path, runs[0], 2, one, high)
    write_run(tmp_path, runs[1], 2, two, low)
    assert (merged(2) == 2).all()  # given there
    write_run(tmp_path, runs[0], 3, one, high)
    write_run(tmp_path, runs[1], 3, two, low)
    assert (merged(3) == 1).all()
    write_run(tmp_path, runs[0], 4, one, low)
    write_run(tmp_path, runs[1], 4, two, low)
    assert (merged(4) == 2).all()  # equal: the later one
    write_run(tmp_path, runs[0], 5, one, high)
    write_run(tmp_path, runs[1], 5, two)
    assert (merged(5) == 2).all()  # no values: the later one
    write_run(tmp_path, runs[1], 3, NOTHING, high)
    assert (merged(3) == 1).all()  # no claim, whatever the values


def test_three_runs(tmp_path):
    """The value of the owner so far is that of its own run."""
    runs = runs_of([1], [2], [3], starts=(0, 1, 2))
    values = {1: 0.5, 2: 0.9, 3: 0.7}
    for run, id_ in zip(runs, (1, 2, 3), strict=True):
        ids = np.full(SIZE, id_, np.uint8)
        ids[:, 16:] = 0 if id_ == 2 else id_
        write_run(tmp_path, run, 5, ids, np.full((3, 4, 2), values[id_]))
    got = merge_runs(tmp_path, runs, 5, "00005", SIZE)
    assert (got[:, :16] == 2).all() and (got[:, 16:] == 3).all()


def test_damaged_values(tmp_path):
    runs = runs_of([1], [2])
    for run, id_ in zip(runs, (1, 2), strict=True):
        write_run(tmp_path, run, 3, np.full(SIZE, id_, np.uint8), np.zeros((3, 4, 2)))
    path: Path = tmp_path / "from-00002/00003.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"from-00002/00003.npz can't be read as soft masks"):
        merge_runs(tmp_path, runs, 3, "00003", SIZE)

"""Masks of several runs over a sequence put together: where two claim a pixel, the likelier object has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.benchmark.mask_files import Ids, has_result, read_result
from vidtrack.benchmark.task import Run
from vidtrack.labels.npz import open_npz

_STRIDES = (8, 4, 16, 2, 32)  # pixels per cell of trackers, the usual one first


def merge_runs(folder: Path, runs: Sequence[Run], index: int, stem: str, size: tuple[int, int]) -> Ids:
    """Put the masks of one frame together.

    Runs that start after the frame don't count. In the frame in which a run starts its objects are given
    and keep all their pixels. Elsewhere a pixel that several runs claim goes to the object with the largest
    soft value there, `labels` of the runs' `<stem>.npz`; where values are equal, or a run has no such file
    (a tracker that copies labels has none), to the run that started last.

    Args:
        folder: of the sequence; each run has its own folder in it.
        runs: all runs over the sequence; their annotations are `Masks`.
        index: number of the frame.
        stem: of its file.
        size: `(height, width)` of the frame.

    Returns:
        uint8 `[H, W]`, 0 where no run claims a pixel.

    Raises:
        InputError: A run has no masks of this frame, or unusable ones.
    """
    ids = np.zeros(size, np.uint8)
    owner = np.full(size, -1, np.int16)  # the run that has each pixel
    shares: list[SoftMasks | None] = []
    active = [run for run in sorted(runs, key=lambda run: run.start) if run.start <= index]
    for number, run in enumerate(active):
        objects = sorted({id_ for masks in run.annotations.values() for id_ in masks.objects})
        claims = read_result(folder / run.name / stem, size, objects)
        shares.append(SoftMasks.load(folder / run.name / f"{stem}.npz", size))
        wins = claims != 0
        if run.start != index:
            y, x = np.nonzero(wins & (owner >= 0))  # conflicts
            if y.size:
                before = _owners(shares, owner, ids, y, x)
                wins[y, x] = ~(_values(shares, number, claims, y, x) < before)  # nan: the later run wins
        ids[wins], owner[wins] = claims[wins], number
    return ids


def has_runs(folder: Path, runs: Sequence[Run], index: int, stem: str) -> bool:
    """Whether each run that has started by frame `index` has masks of it in a folder of its own."""
    active = [run for run in runs if run.start <= index]
    return bool(active) and all(run.name and has_result(folder / run.name / stem) for run in active)


@dataclass(eq=False)
class SoftMasks:
    """How likely each object is, at the cells of a tracker.

    Attributes:
        labels: float `[h, w, K]`, channel 0 is the background.
        channels: number of the channel of each id, int `[256]`; -1: none.
        cells: `(height, width)` of the frame in cells, which need not be whole: the last may be cut.
        size: `(height, width)` of the frame in pixels.
    """

    labels: NDArray[np.floating]
    channels: NDArray[np.int64]
    cells: tuple[float, float]
    size: tuple[int, int]

    @classmethod
    def load(cls, path: Path, size: tuple[int, int]) -> SoftMasks | None:
        """Read a file of `predictions.Writer`; None if there is none.

        A file that has `working`, the size at which the cells were made, and `stride` is placed exactly.
        Otherwise the grid tells it: unshrunk frames by one of the usual strides, else a shrunk frame whose
        shorter side was a whole number of cells.

        Raises:
            InputError: It can't be read.
        """
        if not path.is_file():
            return None
        try:
            with open_npz(path) as file:
                labels, objects = file["labels"], file["objects"]
                exact = "working" in file and "stride" in file
                working = tuple(float(v) for v in file["working"]) if exact else ()
                stride = float(file["stride"]) if exact else 0.0
            if labels.ndim != 3 or labels.shape[-1] != 1 + len(objects):
                raise ValueError(f"{len(objects)} objects, labels {list(labels.shape)}")
            channels = np.full(256, -1, np.int64)
            channels[objects] = np.arange(1, 1 + len(objects))
        except InputError:
            raise
        except Exception as error:  # numpy and zipfile raise nearly anything for damaged files
            raise InputError(f"{path} can't be read as soft masks: {error}") from error
        grid = labels.shape[0], labels.shape[1]
        cells = (working[0] / stride, working[1] / stride) if exact else extent(size, grid)
        return cls(labels, channels, cells, size)

    def at(self, ids: Ids, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float64]:
        """The value of the object `ids[i]` at the pixel `(x[i], y[i])`, float64 `[N]`; nan for unknown ones.

        The values are those of `vidtrack.geometry.to_pixels`, at single pixels and without torch.
        """
        (top, bottom, down), (left, right, across) = (
            _between(pixel, length, cells, count)
            for pixel, length, cells, count in zip(
                (y, x), self.size, self.cells, self.labels.shape[:2], strict=True
            )
        )
        channel = self.channels[ids]

        def read(row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float64]:
            return self.labels[row, column, channel].astype(np.float64)

        upper = read(top, left) * (1 - across) + read(top, right) * across
        lower = read(bottom, left) * (1 - across) + read(bottom, right) * across
        return np.where(channel >= 0, upper * (1 - down) + lower * down, np.nan)


def extent(size: tuple[int, int], grid: tuple[int, int]) -> tuple[float, float]:
    """How many cells, not always whole ones, a frame of `size` covers if its padded grid is `grid`."""
    height, width = size
    rows, columns = grid
    for pixels in (*_STRIDES, height / rows, width / columns):
        if np.ceil(height / pixels - 1e-6) == rows and np.ceil(width / pixels - 1e-6) == columns:
            return height / pixels, width / pixels
    return float(rows), float(columns)


def _between(
    pixel: NDArray[np.intp], length: int, cells: float, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The cells before and after each pixel along one axis, and the share of the latter."""
    position = ((pixel + 0.5) * (cells / length) - 0.5).clip(0, count - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, count - 1), position - low


def _values(
    shares: Sequence[SoftMasks | None],
    number: int,
    ids: Ids,
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> NDArray[np.float64]:
    """The soft values of the claims of run `number` at some pixels, float64 `[N]`; nan where not known."""
    soft = shares[number]
    return np.full(len(y), np.nan) if soft is None else soft.at(ids[y, x], y, x)


def _owners(
    shares: Sequence[SoftMasks | None],
    owner: NDArray[np.int16],
    ids: Ids,
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> NDArray[np.float64]:
    """The soft values of those that have the pixels so far."""
    values = np.full(len(y), np.nan)
    for number in np.unique(owner[y, x]):
        mine = owner[y, x] == number
        values[mine] = _values(shares, int(number), ids, y[mine], x[mine])
    return values

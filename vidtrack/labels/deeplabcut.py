"""DeepLabCut's tables, CSV and H5: hand labels (`CollectedData_...`) and tracking results.

The columns are named in three lines: scorer, bodyparts, coords (x, y and, in results, likelihood); in four
for several animals: scorer, individuals, bodyparts, coords. The rows of hand labels name an image,
`labeled-data/<video>/img0012.png` in one column or in three, whose number is that of the frame; those of
results are frame numbers. What is written follows DeepLabCut's `create_df_from_prediction`
(pose_estimation_pytorch/apis/videos.py; Mathis et al. 2018, arXiv 1804.03142): a pandas table under the key
`df_with_missing`. H5 needs pandas and PyTables, CSV needs neither. Pixels are taken as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.h5table import read_table
from vidtrack.labels.keypoints import Keypoints, same_layout
from vidtrack.labels.textfiles import (
    LARGEST,
    Row,
    frames_of_pictures,
    number,
    number_in_name,
    same_length,
    shortest,
    whole,
)

_KEY = "df_with_missing"
_SINGLE, _MULTI = ("scorer", "bodyparts", "coords"), ("scorer", "individuals", "bodyparts", "coords")
_COORDS = ("x", "y", "likelihood")


def parse_deeplabcut(
    rows: list[Row], where: str, pictures: Mapping[str, int] | None = None
) -> dict[int, Keypoints]:
    """Keypoints of the rows of DeepLabCut's CSV.

    The format has no flag for occluded points: all that have a place are visible. Confidence is the
    likelihood, in hand labels 1 for points that have a place. Points that DeepLabCut pads with (0, 0) or
    (-1, -1) at likelihood 0 or less have no place. Without individuals the only instance is "0".

    Args:
        rows: of the file, not blank.
        where: what the user calls the file, for messages.
        pictures: see `Keypoints.load`.

    Raises:
        InputError: other columns, rows of several videos, a row twice, no number.
    """
    levels = 0
    while levels < min(len(rows), 4) and rows[levels].cells[0] in _MULTI:
        levels += 1
    header, body = rows[:levels], rows[levels:]
    index = 1  # columns that name the row: those after the first have no coordinate
    while levels and index < len(header[-1].cells) and not header[-1].cells[index]:
        index += 1
    for row in rows:
        same_length(row, len(rows[0].cells))
    columns = list(zip(*(row.cells[index:] for row in header), strict=True))
    values = np.full((len(body), len(columns)), np.nan)
    for place, row in enumerate(body):
        values[place] = [number(cell, "a coordinate", row.where) for cell in row.cells[index:]]
    names = [("/".join(row.cells[:index]), row.where) for row in body]
    return _keypoints(tuple(row.cells[0] for row in header), columns, names, values, where, pictures or {})


def read_deeplabcut_h5(path: Path, pictures: Mapping[str, int] | None = None) -> dict[int, Keypoints]:
    """Keypoints of DeepLabCut's H5, see `parse_deeplabcut`.

    Raises:
        InputError: pandas and PyTables aren't installed; the file is damaged, asks to run something, or is
            not of DeepLabCut.
    """
    _require_pandas(path)
    try:
        table = read_table(path, _KEY)
    except InputError:
        raise
    except Exception as error:  # pandas and PyTables raise many kinds of errors, and HDF5 may crash
        raise InputError(
            f"{path} can't be read as a table of DeepLabCut: export it again, or give its CSV."
        ) from error
    names = [(name, f"{path}, row {place}") for place, name in enumerate(table.index, 1)]
    return _keypoints(table.levels, table.columns, names, table.values, str(path), pictures or {})


def write_deeplabcut(
    path: Path | str,
    frames: Iterable[tuple[int, str, Keypoints]],
    scorer: str = "vidtrack",
    *,
    overwrite: bool = False,
) -> None:
    """Write the keypoints of a video as tracking results of DeepLabCut, atomically.

    Likelihood is the confidence. The layout for one animal where the only instance is "0", else that for
    several. Whether a point is occluded, and the skeleton, are no part of the format.

    Args:
        path: `.h5` for H5, CSV otherwise. DeepLabCut looks for `<video><scorer>.h5` beside the video.
        frames: frame number, name and keypoints, all with the same names and instances.
        scorer: the name of who labelled.
        overwrite: replace a file that exists.

    Raises:
        InputError: `path` exists and `overwrite` is False, it can't be written, or pandas and PyTables are
            needed and aren't installed.
    """
    path = Path(path)
    h5 = path.suffix.lower() in (".h5", ".hdf5")
    if h5:
        _require_pandas(path)
    index: list[int] = []
    values: list[np.ndarray] = []
    columns: list[tuple[str, ...]] = []
    levels: tuple[str, ...] = _SINGLE
    for number_, _, keypoints in same_layout(frames):
        if not columns:
            levels = _SINGLE if keypoints.instances == ("0",) else _MULTI
            columns = _columns(scorer, keypoints, levels)
        index.append(number_)
        xy = np.where(keypoints.labelled[..., None], keypoints.xy, np.nan)
        values.append(np.concatenate([xy, keypoints.confidence[..., None]], axis=2).reshape(-1))
    with atomic_file(path, overwrite) as partial:
        if h5:
            _write_h5(partial, levels, columns, index, np.stack(values))
        else:
            _write_csv(partial, levels, columns, index, values)


def _columns(scorer: str, keypoints: Keypoints, levels: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The names of the columns, instance by instance, keypoint by keypoint."""
    return [
        (scorer, *((instance,) if levels == _MULTI else ()), name, coord)
        for instance in keypoints.instances
        for name in keypoints.names
        for coord in _COORDS
    ]


def _write_csv(
    path: Path, levels: tuple[str, ...], columns: list[tuple[str, ...]], index: list[int], values: list[Any]
) -> None:
    """As `DataFrame.to_csv` writes a table whose columns have several levels."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([name, *line] for name, line in zip(levels, zip(*columns, strict=True), strict=True))
        writer.writerows([i, *map(shortest, row)] for i, row in zip(index, values, strict=True))


def _write_h5(
    path: Path,
    levels: tuple[str, ...],
    columns: list[tuple[str, ...]],
    index: list[int],
    values: np.ndarray,
) -> None:
    """A pandas table under DeepLabCut's key, which every pandas since 0.15 reads."""
    pandas: Any = import_module("pandas")
    too_wide = import_module("tables.exceptions").HDF5ExtError

    names = pandas.MultiIndex.from_tuples(columns, names=levels)
    frame = pandas.DataFrame(values.astype(np.float64), columns=names, index=index)
    try:
        frame.to_hdf(path, key=_KEY, format="table", mode="w")
    except too_wide:
        # A table's names of columns must fit into 64 KB: some 2,000 columns. The other layout has no limit.
        frame.to_hdf(path, key=_KEY, format="fixed", mode="w")
    with pandas.HDFStore(path, mode="a") as store:
        # pandas 3 leaves the version out, and pandas 1 and 2, which DeepLabCut runs on, then take the file
        # for one of before 0.10 and fail; they write 0.15.2 themselves.
        store.get_storer(_KEY).attrs.pandas_version = "0.15.2"


def _keypoints(
    levels: Sequence[str | None],
    columns: list[tuple[str, ...]],
    index: list[tuple[str, str]],
    values: np.ndarray,
    where: str,
    pictures: Mapping[str, int],
) -> dict[int, Keypoints]:
    """Keypoints of a table.

    Args:
        levels: what each part of a column's name is.
        columns: the C names.
        index: name and place in the file of each of the T rows.
        values: float64 `[T, C]`.
        where: what the user calls the file, for messages.
        pictures: see `Keypoints.load`.
    """
    levels = tuple(levels)
    if levels not in (_SINGLE, _MULTI) or not columns:
        raise InputError(
            f"{where} doesn't have the columns of DeepLabCut, scorer, (individuals,) bodyparts and coords:"
            " export it again."
        )
    if not index:
        raise InputError(f"{where} has no rows: label a frame first.")
    if len({column[0] for column in columns}) > 1:
        raise InputError(f"{where} has several scorers: keep the columns of one.")
    if (np.abs(values) >= LARGEST).any():
        raise InputError(f"{where} holds infinite or absurdly large coordinates: export it again.")
    instances = list(dict.fromkeys(column[1] if levels == _MULTI else "0" for column in columns))
    names = list(dict.fromkeys(column[-2] for column in columns))
    table = np.full((len(index), len(instances), len(names), 3), np.nan)  # x, y, likelihood
    filled: set[tuple[int, int, int]] = set()
    for place, column in enumerate(columns):
        if column[-1] not in _COORDS:
            raise InputError(f"{where} has the coordinate {column[-1]!r}: keep x, y and likelihood.")
        target = (
            instances.index(column[1]) if levels == _MULTI else 0,
            names.index(column[-2]),
            _COORDS.index(column[-1]),
        )
        if target in filled:
            raise InputError(f"{where} has the column {', '.join(column)} twice: remove one.")
        filled.add(target)
        table[(slice(None), *target)] = values[:, place]
    if any((i, p, 1 - c) not in filled for i, p, c in filled if c < 2):
        raise InputError(f"{where} has a body part with only one of x and y: export it again.")
    frames = _frame_numbers(index, where, pictures)
    rated = any(c == 2 for _, _, c in filled)
    return {
        frame: _of_frame(table[place], rated, tuple(names), tuple(instances))
        for frame, place in sorted(zip(frames, range(len(frames)), strict=True))
    }


def _of_frame(
    points: np.ndarray, rated: bool, names: tuple[str, ...], instances: tuple[str, ...]
) -> Keypoints:
    """Keypoints from x, y, likelihood `[I, P, 3]`; `rated`: the file has likelihoods."""
    xy, likelihood = points[..., :2], points[..., 2]
    padding = (likelihood <= 0) & ((xy == 0).all(axis=2) | (xy == -1).all(axis=2))
    labelled = ~np.isnan(xy).any(axis=2) & ~padding
    confidence = np.clip(np.nan_to_num(likelihood), 0, 1) if rated else labelled
    xy = np.where(labelled[..., None], xy, np.nan).astype(np.float32)
    return Keypoints(xy, labelled, confidence.astype(np.float32), names, instances)


def _frame_numbers(index: list[tuple[str, str]], where: str, pictures: Mapping[str, int]) -> list[int]:
    """Frame number of each row: the row's name itself, that of the picture it names, or that in its name."""
    images = [name for name, _ in index if re.search(r"[A-Za-z]", re.split(r"[/\\]", name)[-1])]
    numbers = frames_of_pictures(images, pictures, where)
    own = dict(zip(images, numbers, strict=True)) if numbers else {}
    frames: list[int] = []
    folders: set[str] = set()
    seen: set[int] = set()
    for name, place in index:
        folder, _, image = re.sub(r"[/\\]+", "/", name).rpartition("/")
        found = own.get(name)
        if found is None:
            found = (
                number_in_name(image) if re.search(r"[A-Za-z]", image) else whole(image, "the frame", place)
            )
        if found is None:
            raise InputError(f"{place} names the image {image!r}, which has no frame number: rename it.")
        if found in seen:
            raise InputError(f"{place} is frame {found} once more: keep one row for each frame.")
        folders.add(folder)
        seen.add(found)
        frames.append(found)
        if len(folders) > 1:
            videos = " and ".join(sorted(folders))
            raise InputError(f"{where} has frames of several videos ({videos}): keep the rows of one.")
    return frames


def _require_pandas(path: Path) -> None:
    """Raises InputError unless pandas and PyTables are installed."""
    if find_spec("pandas") is None or find_spec("tables") is None:
        raise InputError(
            f"{path} is H5, which needs pandas and PyTables: pip install 'vidtrack[deeplabcut]', or use CSV."
        )

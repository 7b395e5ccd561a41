"""Box files: CSV with a header, and MOTChallenge's CSV without one."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.boxes import Boxes
from vidtrack.labels.textfiles import Row, columns_of, number, read_rows, same_length, whole

_KINDS = "boxes (CSV of MOTChallenge, or CSV with a header)"
_EDGES = ("x1", "y1", "x2", "y2")
_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
_ID_COLUMNS = ("object", "id", "instance")
_MOT_FIRST = 1  # MOTChallenge counts frames and pixels from 1

_Found = dict[int, dict[int, tuple[tuple[float, ...], float]]]  # frame -> object -> edges, confidence


def read_boxes(path: Path) -> dict[int, Boxes]:
    """Frame number -> boxes of a file, see `Boxes.load`.

    Raises:
        InputError: the file can't be read as boxes.
    """
    rows = read_rows(path, _KINDS)
    headed = re.search(r"[A-Za-z]", rows[0].cells[0]) is not None
    found = _with_header(rows) if headed else _motchallenge(rows)
    return {
        frame: Boxes(
            tuple(found[frame]),
            np.array([edges for edges, _ in found[frame].values()], np.float32),
            np.array([sure for _, sure in found[frame].values()], np.float32),
        )
        for frame in sorted(found)
    }


def write_mot(path: Path | str, frames: Iterable[tuple[int, str, Boxes]], *, overwrite: bool = False) -> None:
    """Write the boxes of a video as CSV of MOTChallenge, atomically; `Boxes.load` gives the same back.

    One line for each box, `frame, id, bb_left, bb_top, bb_width, bb_height, conf, -1, -1, -1`, with frames
    and pixels from 1 and six decimals. Lost objects have no line, and the frames' names are no part of it.

    Args:
        path: of the file.
        frames: frame number from 0, name and boxes.
        overwrite: replace a file that exists.

    Raises:
        InputError: `path` exists and `overwrite` is False, or it can't be written.
    """
    with atomic_file(path, overwrite) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for index, _, boxes in frames:
            edges = boxes.xyxy.astype(np.float64)
            for i in np.flatnonzero(boxes.labelled):
                left, top, right, bottom = edges[i]
                place = (left + _MOT_FIRST, top + _MOT_FIRST, right - left, bottom - top)
                texts = [_decimal(value) for value in (*place, boxes.confidence[i])]
                writer.writerow([index + _MOT_FIRST, boxes.ids[i], *texts, -1, -1, -1])


def _decimal(value: float) -> str:
    """At most six decimals, without trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _with_header(rows: list[Row]) -> _Found:
    """Boxes of CSV with a header.

    Columns: `frame`, from 0; `x1, y1, x2, y2`, or the four corners `x1, y1 ... x4, y4` of a rotated box (VOT;
    Kristan et al. 2016), which becomes the tight axis-aligned box round them; perhaps `confidence`; perhaps
    `object` or `id`, from 1, or `instance`, from 0 as in files of keypoints: instance 0 is object 1. Without
    them there is one object, 1. An object whose edges are blank is lost.
    """
    lower = [name.lower() for name in rows[0].cells]
    edges = _CORNERS if "x3" in lower else _EDGES
    columns = columns_of(rows[0], ("frame", *edges), ("confidence", *_ID_COLUMNS))
    id_columns = [name for name in _ID_COLUMNS if name in columns]
    if len(id_columns) > 1:
        raise InputError(f"{rows[0].where} has the columns {' and '.join(id_columns)}: keep one of them.")
    if len(rows) == 1:
        raise InputError(f"{rows[0].where} is a header without boxes: add a line for each box.")
    found: _Found = {}
    for row in rows[1:]:
        same_length(row, len(columns))
        frame = whole(row.cells[columns["frame"]], "the frame", row.where)
        object_id = 1
        for name in id_columns:
            least = 0 if name == "instance" else 1
            object_id = whole(row.cells[columns[name]], f"the {name}", row.where, least) + 1 - least
        values = [number(row.cells[columns[name]], name, row.where) for name in edges]
        if any(math.isnan(v) for v in values) and not all(math.isnan(v) for v in values):
            raise InputError(f"{row.where} lacks some of {', '.join(edges)}: give all, or leave all blank.")
        lost = math.isnan(values[0])
        if edges == _CORNERS:
            xs, ys = values[0::2], values[1::2]
            values = [min(xs), min(ys), max(xs), max(ys)]
        sure = (
            number(row.cells[columns["confidence"]], "the confidence", row.where)
            if "confidence" in columns
            else math.nan
        )
        if math.isnan(sure):
            sure = 0.0 if lost else 1.0
        if not 0 <= sure <= 1:
            raise InputError(f"{row.where}: the confidence is {sure:g}: write a number from 0 to 1.")
        _add(found, frame, object_id, tuple(values), sure, row.where)
    return found


def _motchallenge(rows: list[Row]) -> _Found:
    """Boxes of MOTChallenge's CSV: `frame, id, left, top, width, height, conf` and more, which is left out.

    Frames, ids and pixels count from 1 (TrackEval, docs/MOTChallenge-Official; Leal-Taixe et al. 2015, arXiv
    1504.01942), so 1 is taken from frame, left and top, as py-motmetrics does (io.py, `load_motchallenge`);
    TrackEval compares boxes as they are, to which a common shift is nothing. A conf of -1, or none, means
    "not said" and is read as 1; detectors' scores beyond 0..1 are cut off.
    """
    found: _Found = {}
    for row in rows:
        if len(row.cells) < 6:
            raise InputError(
                f"{row.where} has {len(row.cells)} values: MOTChallenge has frame, id, left, top, width,"
                " height; for another order add a header (frame, object, x1, y1, x2, y2)."
            )
        frame = whole(row.cells[0], "the frame", row.where, _MOT_FIRST) - _MOT_FIRST
        if row.cells[1] == "-1":
            raise InputError(
                f"{row.where} is a detection without an object (id -1): number the objects from 1."
            )
        object_id = whole(row.cells[1], "the id", row.where, 1)
        left, top, width, height = (
            number(cell, what, row.where)
            for cell, what in zip(row.cells[2:6], ("left", "top", "width", "height"), strict=True)
        )
        if math.isnan(left + top + width + height):
            raise InputError(f"{row.where} lacks a number: give left, top, width and height.")
        left, top = left - _MOT_FIRST, top - _MOT_FIRST
        sure = number(row.cells[6], "the confidence", row.where) if len(row.cells) > 6 else math.nan
        sure = 1.0 if math.isnan(sure) or sure == -1 else min(max(sure, 0.0), 1.0)
        _add(found, frame, object_id, (left, top, left + width, top + height), sure, row.where)
    return found


def _add(
    found: _Found, frame: int, object_id: int, edges: tuple[float, ...], sure: float, where: str
) -> None:
    """Put a box into `found`; raises InputError if it is there already or turned inside out."""
    boxes = found.setdefault(frame, {})
    if object_id in boxes:
        raise InputError(
            f"{where}: object {object_id} is in frame {frame} twice (frames from 0): remove one."
        )
    if edges[2] < edges[0] or edges[3] < edges[1]:
        raise InputError(f"{where} has its right or bottom edge before the left or top one: swap them.")
    boxes[object_id] = (edges, sure)

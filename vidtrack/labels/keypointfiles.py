"""Keypoint files by content, and vidtrack's own CSV: one line for each point."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.keypoints import Keypoints, same_layout
from vidtrack.labels.pointtable import PointTable
from vidtrack.labels.textfiles import Row, columns_of, head, number, read_rows, same_length, shortest, whole

_KINDS = "keypoints (CSV, COCO JSON, or CSV or H5 of DeepLabCut)"
_REQUIRED = ("frame", "keypoint", "x", "y")
_OPTIONAL = ("instance", "visible", "confidence")
_COLUMNS = ("frame", "instance", "keypoint", "x", "y", "visible", "confidence")
_SEEN = {"1": True, "true": True, "0": False, "false": False, "1.0": True, "0.0": False, "": True}


def read_keypoints(
    path: Path, pictures: Mapping[str, int] | None = None, size: tuple[int, int] | None = None
) -> dict[int, Keypoints]:
    """Frame number -> keypoints of a file, see `Keypoints.load`.

    Raises:
        InputError: the file can't be read as keypoints.
    """
    start = head(path, _KINDS)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        from vidtrack.labels.deeplabcut import read_deeplabcut_h5

        return read_deeplabcut_h5(path, pictures)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        from vidtrack.labels.cocokeypoints import parse_coco_keypoints
        from vidtrack.labels.maskfiles import read_json

        return parse_coco_keypoints(read_json(path), str(path), pictures, size)
    rows = read_rows(path, _KINDS)
    if rows[0].cells[0] == "scorer":
        from vidtrack.labels.deeplabcut import parse_deeplabcut

        return parse_deeplabcut(rows, str(path), pictures)
    return _parse_csv(rows, str(path))


def write_csv(
    path: Path | str, frames: Iterable[tuple[int, str, Keypoints]], *, overwrite: bool = False
) -> None:
    """Write the keypoints of a video as CSV, atomically; `Keypoints.load` gives the same back.

    One line for each point: `frame, instance, keypoint, x, y, visible, confidence`; frames from 0, x and y in
    pixels, blank where the point is not annotated or lost. The skeleton and the frames' names are no part
    of it.

    Args:
        path: of the file.
        frames: frame number, name and keypoints, all with the same names and instances.
        overwrite: replace a file that exists.

    Raises:
        InputError: `path` exists and `overwrite` is False, or it can't be written.
    """
    with atomic_file(path, overwrite) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for index, _, keypoints in same_layout(frames):
            labelled = keypoints.labelled
            visible, xy = keypoints.visible & labelled, np.where(labelled[..., None], keypoints.xy, np.nan)
            for i, instance in enumerate(keypoints.instances):
                for p, name in enumerate(keypoints.names):
                    x, y, sure = (shortest(v) for v in (*xy[i, p], keypoints.confidence[i, p]))
                    writer.writerow([index, instance, name, x, y, int(visible[i, p]), sure])


def _parse_csv(rows: list[Row], where: str) -> dict[int, Keypoints]:
    """Keypoints of the rows of vidtrack's CSV.

    Without the column `instance` there is one, "0"; without `visible` every point is; without `confidence`
    it is 1 for points that have a place.
    """
    columns = columns_of(rows[0], _REQUIRED, _OPTIONAL)
    if len(rows) == 1:
        raise InputError(f"{where} has no keypoints, only a header: add a line for each point.")
    table = PointTable(where)
    for row in rows[1:]:
        same_length(row, len(columns))
        values = {name: row.cells[place] for name, place in columns.items()}
        if not values["keypoint"]:
            raise InputError(f"{row.where} names no keypoint: fill in the column 'keypoint'.")
        seen = _SEEN.get(values.get("visible", "").lower())
        if seen is None:
            raise InputError(f"{row.where}: visible is {values['visible']!r}: write 1 or 0.")
        x, y = (number(values[axis], axis, row.where) for axis in "xy")
        confidence = number(values.get("confidence", ""), "the confidence", row.where)
        table.add(
            whole(values["frame"], "the frame", row.where),
            values.get("instance") or "0",
            values["keypoint"],
            (x, y),
            seen,
            confidence if confidence == confidence else float(x == x),
            row.where,
        )
    return table.result()

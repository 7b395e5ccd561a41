"""Box sequences in the layouts of OTB and VOT.

OTB (Wu, Lim & Yang, "Object Tracking Benchmark", PAMI 2015), and what takes over its layout:

    ROOT/<sequence>/img/0001.jpg ...
    ROOT/<sequence>/groundtruth_rect.txt         a line "x, y, width, height" for each frame

Its pixels are MATLAB's: x = 1 is the first, and a box of width w covers the pixels x to x + w - 1. Here that
are the edges x - 1 to x - 1 + w. Where a sequence has several objects (`groundtruth_rect.1.txt`, `.2.txt`;
empty files don't count), each is a sequence of its own, `Jogging.1`, as in the official list. Five sequences
have pictures that are not part of them; which are is a fact of the set (`PARTS`).

VOT (Kristan et al.) and GOT-10k:

    ROOT/list.txt                                names of the sequences; without it, all folders
    ROOT/<sequence>/groundtruth.txt              four corners or "x, y, width, height" for each frame
    ROOT/<sequence>/color/00000001.jpg ...       or without the folder `color`

Their coordinates are taken as they are, from 0, and four corners become the upright box around them.

In both, a box without a number or without area is no annotation, as in pytracking's evaluation of OTB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.boxes import BoxSet
from vidtrack.benchmark.davis import require_names
from vidtrack.benchmark.layout import FrameFolder, frames_of, has_pictures, open_frames
from vidtrack.labels.boxes import Boxes
from vidtrack.labels.textfiles import Row, number, read_rows

OTB_FIRST = 1
PARTS = {  # first and last picture of the sequence, from 1; its other pictures have no box
    "david": (300, 770),
    "diving": (1, 215),
    "football1": (1, 74),
    "freeman3": (1, 460),
    "freeman4": (1, 283),
}


def layout_of(root: Path) -> str | None:
    """`otb` or `vot`, by the files that a folder or its sequences have; None where there are none.

    Raises:
        InputError: There are both.
    """
    found = {
        name
        for folder in (root, *_folders(root))
        for name, there in (("otb", _otb_files(folder)), ("vot", (folder / "groundtruth.txt").is_file()))
        if there
    }
    if len(found) == 2:
        raise InputError(
            f"{root} has sequences of OTB (groundtruth_rect.txt) and of VOT (groundtruth.txt): part them."
        )
    return next(iter(found), None)


def find_otb(root: Path, frames: Path | None = None) -> list[BoxSet]:
    """The sequences of a folder in OTB's layout, or the one that the folder is, by name.

    Args:
        root: ROOT, see the top of this file, or a sequence in it.
        frames: folder that has the pictures of each sequence, where they aren't in `img`.

    Raises:
        InputError: A sequence has no boxes or no pictures, as many of both as don't match, or damaged lines.
    """
    alone = bool(_otb_files(root))
    sets = []
    for folder in [root] if alone else _folders(root):
        files = _otb_files(folder)
        if not files and (folder / "img").is_dir():
            raise InputError(f"{folder / 'groundtruth_rect.txt'} is missing: each sequence needs its boxes.")
        empty = bool(files)
        for file in files:
            rows = _rows(file)
            if rows is None:
                continue
            images = _pictures(folder, ("img",), frames, alone)
            start = _first_picture(folder.resolve().name, file, len(rows), images)
            boxes = [_otb_box(row) for row in rows]
            empty = False
            name = folder.resolve().name + file.name.removeprefix("groundtruth_rect").removesuffix(".txt")
            sets.append(_box_set(name, file, images, start, boxes))
        if empty:
            raise InputError(f"{files[0]} is empty: it has a line for each frame.")
    return sets


def find_vot(root: Path, frames: Path | None = None) -> list[BoxSet]:
    """The sequences of a folder in VOT's layout, or the one that the folder is, in the order of its list.

    Args:
        root, frames: see `find_otb`; pictures are in `color` or beside the boxes.

    Raises:
        InputError: A sequence that the list names is missing; else see `find_otb`.
    """
    alone = (root / "groundtruth.txt").is_file()
    sets = []
    for folder in [root] if alone else _vot_folders(root):
        file = folder / "groundtruth.txt"
        if not file.is_file():
            raise InputError(f"{file} is missing: each sequence needs its boxes.")
        rows = _rows(file)
        if rows is None:
            raise InputError(f"{file} is empty: it has a line for each frame.")
        images = _pictures(folder, ("color", ""), frames, alone)
        start = _first_picture(None, file, len(rows), images)
        sets.append(_box_set(folder.resolve().name, file, images, start, [_vot_box(row) for row in rows]))
    return sets


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _otb_files(folder: Path) -> list[Path]:
    """The files of boxes of a sequence, one for each object."""
    single = folder / "groundtruth_rect.txt"
    return [single] if single.is_file() else sorted(folder.glob("groundtruth_rect.*.txt"))


def _vot_folders(root: Path) -> list[Path]:
    names = root / "list.txt"
    if not names.is_file():
        return [f for f in _folders(root) if (f / "groundtruth.txt").is_file() or (f / "color").is_dir()]
    found = [
        line.strip()
        for line in names.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    for name in require_names(found, names):
        if not (root / name).is_dir():
            raise InputError(f"{root / name} is missing: {names} names this sequence.")
        if found.count(name) > 1:
            raise InputError(f"{names} names {name} twice: remove one.")
    return [root / name for name in found]


def _rows(file: Path) -> list[Row] | None:
    """The lines of a file of boxes; None where it is empty."""
    if not file.read_bytes().strip():
        return None
    return read_rows(file, "boxes, a line for each frame")


def _pictures(folder: Path, inner: Iterable[str], frames: Path | None, alone: bool) -> FrameFolder:
    name = folder.resolve().name
    given = frames_of(frames, name, alone)
    base = folder if given is None else given
    for part in (*inner, ""):
        if (base / part).is_dir() and has_pictures(base / part):
            return open_frames(base / part)
    raise InputError(f"{base / next(iter(inner))} has no pictures: each sequence needs its frames there.")


def _first_picture(name: str | None, file: Path, boxes: int, images: FrameFolder) -> int:
    """Frame number of the first box; `name` is that of a sequence of OTB."""
    count = len(images.files)
    if boxes == count:
        return 0
    first, last = PARTS.get((name or "").lower(), (1, 0))
    if boxes == last - first + 1 and last <= count:
        return first - 1
    raise InputError(f"{file} has {boxes} boxes, but {images.path} has {count} frames: each needs a line.")


def _box_set(
    name: str, file: Path, images: FrameFolder, start: int, boxes: Iterable[tuple[float, ...] | None]
) -> BoxSet:
    read = {
        start + place: Boxes((1,), np.array([edges], np.float32), np.ones(1, np.float32))
        for place, edges in enumerate(boxes)
        if edges is not None and edges[2] > edges[0] and edges[3] > edges[1]
    }
    return BoxSet.of(name, file, images, read)


def _values(row: Row, counts: tuple[int, ...], what: str) -> list[float] | None:
    """The numbers of a line; None where one is missing."""
    if row.cells[0].startswith("m"):
        raise InputError(f"{row.where} is a mask (VOT from 2020 on): score masks, or give boxes.")
    values = [number(cell, "a coordinate", row.where) for cell in row.cells]
    if len(values) == 1 and (np.isnan(values[0]) or values[0] == 0):
        return None  # how VOT says that the object isn't there
    if len(values) not in counts:
        raise InputError(f"{row.where} has {len(values)} values: {what}.")
    return None if np.isnan(values).any() else values


def _otb_box(row: Row) -> tuple[float, ...] | None:
    values = _values(row, (4,), "a box is x, y, width, height")
    return None if values is None else _rectangle(values, OTB_FIRST)


def _vot_box(row: Row) -> tuple[float, ...] | None:
    values = _values(row, (4, 8), "a box is x, y, width, height, or the x, y of four corners")
    if values is None or len(values) == 4:
        return None if values is None else _rectangle(values, 0)
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _rectangle(values: list[float], first: int) -> tuple[float, ...]:
    x, y, width, height = values
    return x - first, y - first, x - first + width, y - first + height


FINDERS: dict[str, Callable[[Path, Path | None], list[BoxSet]]] = {"otb": find_otb, "vot": find_vot}

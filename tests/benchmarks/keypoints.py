"""Keypoints and boxes carried through real sequences by trackers and two baselines, as one table.

    python tests/benchmarks/keypoints.py --data $VIDTRACK_DATA/eval --tracker default lab copy lk

`copy` repeats the given labels. `lk` is optical flow after Lucas & Kanade in pyramids (Bouguet 2001), as in
OpenCV, from frame to frame. `crw`, `dino` and `vfs` are the default tracker with that preset, which
carries no boxes. Any other name is loaded by `vidtrack.load`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

import vidtrack
from pretrain.errors import InputError
from vidtrack.benchmark import boxes, pose
from vidtrack.benchmark.boxes import BoxSet
from vidtrack.benchmark.pose import PoseSet
from vidtrack.labels.boxes import Boxes
from vidtrack.labels.keypoints import Keypoints
from vidtrack.propagate.presets import VARIANTS
from vidtrack.video import read_image

TRACKERS = ("default", "lab", "copy", "lk")
# A point that moves further in one frame leaves a window of 12 cells of 8 pixels.
WINDOW_PX = 96
GRID = 10  # points along each side of a box that lk follows

Labels = dict[int, Keypoints] | dict[int, Boxes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder eval of the project's data")
    parser.add_argument("--tracker", nargs="+", default=TRACKERS, help="default: %(default)s")
    options = parser.parse_args()
    columns, seconds = {}, {}
    sets = load_sets(options.data)
    for name in options.tracker:
        began = time.perf_counter()
        columns[name] = measure(name, sets)
        seconds[name] = time.perf_counter() - began
    Console(width=max(80, 64 + 12 * len(columns))).print(table(columns, seconds))


def load_sets(data: Path) -> dict[str, PoseSet | BoxSet]:
    """The sequences of the table by what they are called there."""
    dlc, posetrack = data / "DLC-openfield/Keypoints", data / "PoseTrack-bonn/Keypoints"
    badja, davis = data / "BADJA/Keypoints", data / "DAVIS-2016-dev/JPEGImages/480p"
    animals = ("bear", "horsejump-low")
    return {
        "mouse": PoseSet.load(dlc / "m4s1.csv", "frame-diagonal"),
        "PoseTrack": PoseSet.load(posetrack / "060470979.csv", "posetrack"),
        **{f"BADJA {n}": PoseSet.load(badja / f"{n}.csv", "badja", frames=davis / n) for n in animals},
        "VOT bag": BoxSet.load(data / "VOT-bag/Boxes/bag.csv"),
    }


def measure(name: str, sets: dict[str, PoseSet | BoxSet]) -> dict[str, tuple[int, float]]:
    """Number of scored points or boxes and their score 0..1, by row of the table."""
    baselines = {"copy": copy, "lk": lucas_kanade}
    tracker = None if name in baselines else load(name)
    rows = {}
    for title, sequence in sets.items():
        if name in VARIANTS and isinstance(sequence, BoxSet):
            continue
        found = baselines[name](sequence) if tracker is None else propagate(tracker, sequence)
        if isinstance(sequence, BoxSet):
            result = boxes.score(sequence, found)
            rows[f"{title}: mean IoU"] = result["boxes"], result["IoU-Mean"]
            continue
        parts = {"": sequence.scored}
        if title == "mouse":
            jumps = sequence.motion_px > WINDOW_PX
            parts |= {f", jumps over {WINDOW_PX} px": jumps, ", without jumps": ~jumps}
        kind = {"badja": "PCK", "posetrack": "PCKh", "frame-diagonal": "PCK, frame diagonal "}
        for part, among in parts.items():
            result = pose.score(sequence, found, among)
            row = f"{title}: {kind[sequence.protocol]}@{sequence.alpha:g}{part}"
            rows[row] = result["points"], result["PCK"]
    return rows


def load(name: str) -> vidtrack.Tracker:
    """A tracker by its name, or the default one with a preset of the literature."""
    return vidtrack.load(preset=name) if name in VARIANTS else vidtrack.load(name)


def propagate(tracker: vidtrack.Tracker, sequence: PoseSet | BoxSet) -> Labels:
    """Labels of a tracker, of every frame from the given one to the last annotated one."""
    first, last = sequence.numbers[0], sequence.numbers[-1]
    results = tracker.propagate(
        sequence.frames.path, annotations={first: sequence.given}, start=first, end=last + 1
    )
    return {result.index: result.labels for result in results}


def copy(sequence: PoseSet | BoxSet) -> Labels:
    """The given labels in each annotated frame."""
    return dict.fromkeys(sequence.numbers, sequence.given)


def lucas_kanade(sequence: PoseSet | BoxSet) -> Labels:
    """The given labels moved by optical flow, in every frame up to the last annotated one."""
    first, last = sequence.numbers[0], sequence.numbers[-1]
    images = (read_image(file) for file in sequence.frames.files[first : last + 1])
    follow = follow_boxes if isinstance(sequence, BoxSet) else follow_keypoints
    return dict(enumerate(follow(sequence.given, images), first))


def move_points(before: np.ndarray | None, after: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Where points `[N, 2]` of one gray frame are in the next; a point that is lost stays where it was."""
    if before is None or not len(xy):
        return xy
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        np.ascontiguousarray(xy[:, None], np.float32),
        None,
        winSize=(21, 21),
        maxLevel=3,  # four levels, since 0 is the frame itself
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),  # hundredths of a pixel
    )
    return np.where(status == 1, moved[:, 0], xy).astype(np.float32)


def follow_keypoints(given: Keypoints, images: Iterator[np.ndarray]) -> Iterator[Keypoints]:
    """`lk` for keypoints: each point on its own, whether visible or not."""
    known = given.labelled
    points = given.xy[known]
    for move in flow(images):
        points = move(points)
        xy = np.full_like(given.xy, np.nan)
        xy[known] = points
        yield replace(given, xy=xy)


def follow_boxes(given: Boxes, images: Iterator[np.ndarray]) -> Iterator[Boxes]:
    """`lk` for boxes: a box keeps its size and moves by the median of a grid of points inside it."""
    current = given.xyxy.copy()
    inside = (np.arange(GRID) + 0.5) / GRID
    for move in flow(images):
        for box in current:
            x, y = (box[i] + inside * (box[i + 2] - box[i]) for i in (0, 1))
            grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)
            if np.isfinite(grid).all():
                box += np.tile(np.median(move(grid) - grid, axis=0), 2)
        yield replace(given, xyxy=current.copy())


def flow(images: Iterator[np.ndarray]) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """For each frame the function that carries points of the frame before into it; the first keeps them."""
    before: np.ndarray | None = None
    for image in images:
        after = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        yield partial(move_points, before, after)
        before = after


def table(columns: dict[str, dict[str, tuple[int, float]]], seconds: dict[str, float]) -> Table:
    """A row per measure and a column per tracker, in percent."""
    out = Table(title="Keypoints and boxes, %")
    out.add_column("sequence: measure")
    out.add_column("scored", justify="right")
    for name in columns:
        out.add_column(name, justify="right")
    rows = {row: count for column in columns.values() for row, (count, _) in column.items()}
    for row, count in rows.items():
        cells = [f"{100 * column[row][1]:.1f}" if row in column else "" for column in columns.values()]
        out.add_row(row, str(count), *cells, end_section=row == list(rows)[-1])
    out.add_row("seconds", "", *(f"{seconds[name]:.1f}" for name in columns))
    return out


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")

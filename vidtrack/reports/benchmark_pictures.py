"""The frames that were tracked best and worst, drawn beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtrack.benchmark.ranking import drawn_rows, is_lower
from vidtrack.benchmark.task import Item, Task
from vidtrack.labels import Boxes, Keypoints, Masks
from vidtrack.reports.boxes import draw_boxes
from vidtrack.reports.keypoints import draw_keypoints
from vidtrack.reports.overlay import draw_masks

SIDE = 640  # pixels of the longer side of a picture

Kind = Literal["best", "worst"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame of a sequence, with the labels of a tracker and with the true ones.

    Attributes:
        sequence: its name.
        frame: its number.
        row: name of the row of results.
        score: of this frame, mean over objects.
        kind: "best" or "worst".
        predicted: uint8 `[H, W, 3]` RGB.
        truth: the same with the true labels.
    """

    sequence: str
    frame: int
    row: str
    score: float
    kind: Kind
    predicted: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def make_pictures(task: Task, results: dict[str, Any], folder: Path, count: int = 3) -> list[Picture]:
    """Draw the best and the worst scored frames of each row: at most `count` of either, one per sequence.

    Args:
        task: what was measured.
        results: schema 2; of many rows, the first and the best five are drawn.
        folder: of the results, which holds the predictions; those of rows without a folder lie in
            `settings["masks"]`. A row whose predictions are gone is left out.
        count: pictures of either kind for each row.

    Returns:
        By row the best ones, the best first, then the worst, the worst first. Their longer side has at most
        640 pixels.
    """
    items = {item.name: item for item in task.items}
    lower = is_lower(results, results["keys"][0])
    pictures = []
    for index in drawn_rows(results):
        row = results["rows"][index]
        predictions = _predictions(row, folder)
        if predictions is None or not predictions.is_dir():
            continue
        for kind, sequence, frame, score in _chosen(row["sequences"], lower, count):
            if (item := items.get(sequence)) is not None:
                drawn = _drawn(item, predictions / sequence, frame)
                pictures.append(Picture(sequence, frame, row["name"], score, kind, *drawn))
    return pictures


def draw(image: NDArray[np.uint8], labels: object) -> NDArray[np.uint8]:
    """A copy of a frame `[H, W, 3]` with labels of any kind; None leaves it as it is."""
    if isinstance(labels, Masks):
        return draw_masks(image, labels)
    if isinstance(labels, Keypoints):
        return draw_keypoints(image, labels)
    if isinstance(labels, Boxes):
        return draw_boxes(image, labels)
    if labels is not None:
        raise ValueError(f"labels must be Masks, Keypoints, Boxes or None, not {type(labels).__name__}")
    return image.copy()


def shrink(image: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """`image` with a longer side of at most `side` pixels; smaller ones are kept."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def frame_scores(record: Mapping[str, Any]) -> list[float | None]:
    """Mean score over the objects of each frame of a sequence; None where none is scored."""
    columns = zip(*record["series"].values(), strict=True)
    found = ([value for value in column if value is not None] for column in columns)
    return [sum(values) / len(values) if values else None for values in found]


def _predictions(row: dict[str, Any], folder: Path) -> Path | None:
    if row.get("folder") is not None:
        return folder / row["folder"]
    masks = (row.get("settings") or {}).get("masks")
    return None if masks is None else Path(masks)


def _chosen(sequences: Mapping[str, Any], lower: bool, count: int) -> list[tuple[Kind, str, int, float]]:
    """Kind, sequence, frame and score of the pictures of a row."""
    sign = -1 if lower else 1  # so that larger is better
    found: list[tuple[Kind, str, int, float]] = []
    directions: tuple[tuple[Kind, int], ...] = (("best", -sign), ("worst", sign))
    for kind, direction in directions:
        extremes: list[tuple[Kind, str, int, float]] = []
        for name, record in sequences.items():
            scored = [(i, value) for i, value in enumerate(frame_scores(record)) if value is not None]
            if scored:
                frame, score = min(scored, key=lambda pair: direction * pair[1])
                extremes.append((kind, name, frame, score))
        found += sorted(extremes, key=lambda one: direction * one[3])[:count]
    return found


def _drawn(item: Item, folder: Path, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The frame with the predicted and with the true labels."""
    image = item.frame(frame)
    return shrink(draw(image, item.predicted(folder, frame))), shrink(draw(image, item.truth(frame)))

"""Box sequences with ground truth, and their scores: mean IoU, success and precision.

The first frame with boxes is given and not scored, as in the one-pass evaluation of Wu, Lim & Yang, "Online
Object Tracking: A Benchmark", CVPR 2013, whose tool does score the given frame. Scored are the objects of
that frame wherever they are annotated; a lost prediction has an IoU of 0.

The VOT challenges (Kristan et al.) differ: they compare rotated boxes or masks, start a tracker again after
a failure or from several anchors, and report accuracy, robustness and expected average overlap. Here four
corners become the tight upright box around them, in truth and result alike, and nothing is started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.benchmark.layout import FrameFolder, find_frames, in_order_of_frames
from vidtrack.benchmark.metrics import box_iou, center_distance, success_auc
from vidtrack.labels.boxes import Boxes

KEYS: tuple[str, ...] = ("Success-AUC", "Precision@20", "IoU-Mean", "SR@0.5")
NEAR_PX, HALF = 20, 0.5


@dataclass(frozen=True, eq=False)
class BoxSet:
    """One sequence with true boxes in some or all frames.

    T annotated frames, N objects of the first of them.

    Attributes:
        name: name of the sequence.
        frames: all frames of the sequence.
        truth: the true boxes of the annotated frames, by frame number, ascending.
        numbers: the annotated frames, ascending; the first of them is given.
        ids: the objects, in the order of the first annotated frame.
        xyxy: true boxes, float32 `[T, N, 4]` pixels; nan where not annotated.
        sources: the files beside the frames that all this comes from.
    """

    name: str
    frames: FrameFolder
    truth: dict[int, Boxes]
    numbers: tuple[int, ...]
    ids: tuple[int, ...]
    xyxy: NDArray[np.float32]
    sources: tuple[Path, ...]

    @property
    def first(self) -> int:
        """Number of the first annotated frame, where tracking starts."""
        return self.numbers[0]

    @property
    def given(self) -> Boxes:
        """The boxes of that frame, as a tracker gets them."""
        return self.truth[self.first]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which boxes are scored, bool `[T, N]`: all that are annotated but the given ones."""
        scored = np.asarray(np.isfinite(self.xyxy).all(-1))
        scored[0] = False
        return scored

    @classmethod
    def load(cls, path: Path | str, *, frames: Path | str | None = None) -> BoxSet:
        """Load a file of boxes with its frames.

        Args:
            path: the boxes, any file that `Boxes.load` reads, such as the four corners of VOT.
            frames: folder of the frames; None: see `layout.py`.

        Raises:
            InputError: An unusable file, frames that don't fit to it, or nothing to score.
        """
        path = Path(path)
        folder = find_frames(path, frames)
        return cls.of(path.stem, path, folder, in_order_of_frames(path, Boxes.load(path), folder))

    @classmethod
    def of(cls, name: str, path: Path, frames: FrameFolder, read: Mapping[int, Boxes]) -> BoxSet:
        """A sequence from what was read of it.

        Args:
            name: of the sequence.
            path: the file that says where the boxes are.
            frames: its frames.
            read: the boxes by frame number.

        Raises:
            InputError: There is nothing to score.
        """
        truth = {n: boxes for n, boxes in sorted(read.items()) if boxes.labelled.any()}
        if len(truth) < 2:
            raise InputError(
                f"{path} has boxes in fewer than two frames: the first is given, the others are scored."
            )
        numbers = tuple(truth)
        given = truth[numbers[0]]
        ids = tuple(id_ for id_, known in zip(given.ids, given.labelled, strict=True) if known)
        xyxy = np.stack([_aligned(boxes, ids) for boxes in truth.values()])
        found = cls(name, frames, truth, numbers, ids, xyxy, (path,))
        if not found.scored.any():
            raise InputError(f"{path} has no box of frame {numbers[0]} again: nothing can be scored.")
        return found


def score(boxes: BoxSet, predictions: Mapping[int, Boxes]) -> dict[str, Any]:
    """Score predicted boxes.

    Args:
        boxes: the sequence with its truth.
        predictions: boxes by frame number, for all frames with scored boxes; others are not looked at.
            Objects are matched by id: one that a prediction lacks is lost, other ids don't count.

    Returns:
        Over all scored boxes, 0..1: `Success-AUC`, `Precision@20` (the share whose centre is at most 20 px
        from the true one), `IoU-Mean`, `SR@0.5` (the share with an IoU above 0.5); `boxes`, `frames` and
        `lost`: the number of scored boxes, of frames that have one, and of scored boxes without a
        prediction; `objects`: the mean IoU of each by id, None where no box of it is scored.

    Raises:
        ValueError: A frame without prediction.
    """
    scored, predicted = boxes.scored, _predicted(boxes, predictions)
    overlap = ious(boxes, predictions)
    iou = overlap[scored]
    distance = center_distance(boxes.xyxy[scored], predicted[scored])
    per_object = {id_: overlap[scored[:, i], i] for i, id_ in enumerate(boxes.ids)}
    return {
        "Success-AUC": success_auc(iou),
        "Precision@20": float((distance <= NEAR_PX).mean()),
        "IoU-Mean": float(iou.mean()),
        "SR@0.5": float((iou > HALF).mean()),
        "boxes": int(scored.sum()),
        "frames": int(scored.any(1).sum()),
        "lost": int((~np.isfinite(predicted[scored]).all(-1)).sum()),
        "objects": {str(id_): float(v.mean()) if v.size else None for id_, v in per_object.items()},
    }


def ious(boxes: BoxSet, predictions: Mapping[int, Boxes]) -> NDArray[np.float64]:
    """IoU of each scored box, float64 `[T, N]`: 0 where it is lost, nan where it isn't scored.

    Args:
        boxes, predictions: see `score`.

    Raises:
        ValueError: A frame without prediction.
    """
    scored, predicted = boxes.scored, _predicted(boxes, predictions)
    found = np.full(scored.shape, np.nan)
    found[scored] = box_iou(boxes.xyxy[scored], predicted[scored])
    return found


def _predicted(boxes: BoxSet, predictions: Mapping[int, Boxes]) -> NDArray[np.float32]:
    """Where the objects of a set are predicted in frames with a scored box, float32 `[T, N, 4]`; else nan."""
    predicted = np.full_like(boxes.xyxy, np.nan)
    for index, frame in enumerate(boxes.numbers):
        if boxes.scored[index].any():
            if frame not in predictions:
                raise ValueError(f"{boxes.name}: no prediction of frame {frame}")
            predicted[index] = _aligned(predictions[frame], boxes.ids)
    return predicted


def _aligned(boxes: Boxes, ids: tuple[int, ...]) -> NDArray[np.float32]:
    """The boxes of some objects in a frame, float32 `[N, 4]`; nan for those that it doesn't have."""
    rows = dict(zip(boxes.ids, boxes.xyxy, strict=True))
    return np.stack([rows.get(id_, np.full(4, np.nan, np.float32)) for id_ in ids])

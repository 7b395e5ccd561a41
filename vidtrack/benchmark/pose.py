"""Keypoint sequences with ground truth, the protocols that score them, and their scores (PCK).

The rules of all protocols: the first annotated frame is given, and not scored. Scored are the points that are
annotated and visible, both in their frame and in the first: a point that was not given can't be tracked.
All scored points weigh the same. A lost prediction (nan) is wrong. The protocols differ in what a distance
is compared with:

| protocol | correct within | alpha | follows (arXiv) |
|---|---|---|---|
| badja | alpha sqrt(area of the silhouette in that frame) | 0.2 | Biggs et al. 2018, 1811.05804 |
| posetrack | alpha 0.6 diagonal of the head box in that frame | 0.5 | Andriluka et al. 2018, 1710.10000 |
| frame-diagonal | alpha diagonal of the frame | 0.05 | sets that have neither |

Where published figures come from other rules:

- The BADJA repository has no evaluation. The common one for tracking (Harley et al. 2022, arXiv 2204.04153,
  `test_on_badja.py`) also leaves out the first annotated frame and takes the silhouette of the scored frame,
  but squeezes frames to 512x320, wants a distance below (not at) the threshold, and scores joints that are
  visible in their frame even where the first frame doesn't show them.
- PoseTrack's `poseval` scores people that are detected anew in each frame: it has no given frame, and scores
  occluded joints that are annotated too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.benchmark.davis import read_ids
from vidtrack.benchmark.layout import FrameFolder, find_frames, in_order_of_frames
from vidtrack.benchmark.metrics import correct_points, head_size, pck
from vidtrack.benchmark.predictions import KEYPOINTS, read_keypoints
from vidtrack.labels.keypoints import Keypoints
from vidtrack.labels.textfiles import columns_of, number, read_rows, same_length, whole

ALPHA = {"badja": 0.2, "posetrack": 0.5, "frame-diagonal": 0.05}
HEAD_COLUMNS = ("frame", "instance", "x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class PoseSet:
    """One sequence with true keypoints in some or all frames, and how close counts as correct.

    T annotated frames, I instances, P keypoints, in the order of `numbers`, `instances` and `names`.

    Attributes:
        name: name of the sequence.
        protocol: a key of `ALPHA`.
        alpha: fraction of the protocol's size within which a point is correct.
        frames: all frames of the sequence.
        truth: the true keypoints of the annotated frames, by frame number, ascending.
        numbers: the annotated frames, ascending; the first of them is given.
        instances, names: all instances and keypoints of the sequence.
        xy: true places, float32 `[T, I, P, 2]` pixels; nan where not annotated.
        scored: bool `[T, I, P]`, see the rules at the top of this file.
        size_px: what the protocol measures by, float64 `[T, I]` pixels; nan where unknown, which it is for
            no scored point.
        sources: the files beside the frames that all this comes from.
    """

    name: str
    protocol: str
    alpha: float
    frames: FrameFolder
    truth: dict[int, Keypoints]
    numbers: tuple[int, ...]
    instances: tuple[str, ...]
    names: tuple[str, ...]
    xy: NDArray[np.float32]
    scored: NDArray[np.bool_]
    size_px: NDArray[np.float64]
    sources: tuple[Path, ...]

    @property
    def threshold_px(self) -> NDArray[np.float64]:
        """Largest distance in pixels that is correct, float64 `[T, I]`; nan where `size_px` is."""
        return self.alpha * self.size_px

    @property
    def first(self) -> int:
        """Number of the first annotated frame, where tracking starts."""
        return self.numbers[0]

    @property
    def given(self) -> Keypoints:
        """The keypoints of that frame, as a tracker gets them."""
        return self.truth[self.first]

    @property
    def motion_px(self) -> NDArray[np.float64]:
        """How far each point truly moved since the annotated frame before, float64 `[T, I, P]` pixels.

        nan in the first annotated frame and where one of the two is not annotated.
        """
        step = np.diff(self.xy.astype(np.float64), axis=0, prepend=np.nan)
        return np.hypot(step[..., 0], step[..., 1])

    @classmethod
    def load(
        cls,
        path: Path | str,
        protocol: str,
        *,
        frames: Path | str | None = None,
        masks: Path | str | None = None,
        heads: Path | str | None = None,
        alpha: float | None = None,
    ) -> PoseSet:
        """Load a keypoint file with its frames and what the protocol measures them by.

        Args:
            path: the keypoints, any file that `Keypoints.load` reads.
            protocol: badja, posetrack or frame-diagonal.
            frames: folder of the frames; None: see `layout.py`.
            masks: badja: folder of silhouettes, named as their frames; any non-zero value is the animal.
                None: the folder of the same name under `Annotations` in a DAVIS layout.
            heads: posetrack: CSV with the columns frame, instance, x1, y1, x2, y2, pixels. None: the file
                `<name>.heads.csv` beside the keypoints.
            alpha: None: that of the protocol.

        Raises:
            InputError: An unknown protocol, an unusable file, frames that don't fit to it, nothing to score,
                or a scored point without a silhouette or head.
        """
        path = Path(path)
        if protocol not in ALPHA:
            raise InputError(f"There is no keypoint protocol {protocol}: choose {', '.join(ALPHA)}.")
        alpha = ALPHA[protocol] if alpha is None else alpha
        if not 0 < alpha < np.inf:
            raise InputError(f"alpha is {alpha}: it must be a number above 0.")
        folder = find_frames(path, frames)
        pictures = {file.stem: number for number, file in enumerate(folder.files)}
        read = {n: points for n, points in Keypoints.load(path, pictures).items() if points.labelled.any()}
        truth = in_order_of_frames(path, read, folder)
        if len(truth) < 2:
            raise InputError(
                f"{path} has keypoints in fewer than two frames: the first is given, the others are scored."
            )
        numbers = tuple(truth)
        instances, names = truth[numbers[0]].instances, truth[numbers[0]].names
        aligned = [_aligned(points, instances, names) for points in truth.values()]
        xy, visible = np.stack([a[0] for a in aligned]), np.stack([a[1] for a in aligned])
        known = visible & np.isfinite(xy).all(-1)
        scored = known & known[0]
        scored[0] = False
        if not scored.any():
            raise InputError(f"{path} shows no keypoint of frame {numbers[0]} again: nothing can be scored.")

        needed = scored.any(-1)
        size_px: NDArray[np.float64]
        sources = [path]
        if protocol == "badja":
            folder_of_masks = silhouettes(folder) if masks is None else Path(masks)
            size_px = _animal_sizes(path, folder, folder_of_masks, numbers, needed)
            sources += [_silhouette(folder_of_masks, folder, numbers[t]) for t in np.flatnonzero(needed)]
        elif protocol == "posetrack":
            file = path.with_suffix(".heads.csv") if heads is None else Path(heads)
            size_px = _head_sizes(file, numbers, instances, needed)
            sources.append(file)
        else:
            size_px = np.full(needed.shape, np.hypot(*folder.size))
        return cls(
            name=path.stem,
            protocol=protocol,
            alpha=alpha,
            frames=folder,
            truth=truth,
            numbers=numbers,
            instances=instances,
            names=names,
            xy=xy,
            scored=scored,
            size_px=size_px,
            sources=tuple(sources),
        )


def score(
    pose: PoseSet, predictions: Mapping[int, Keypoints], among: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Score predicted keypoints.

    Args:
        pose: the sequence with its truth.
        predictions: keypoints by frame number, for all frames with scored points; others are not looked at.
            Instances and keypoints are matched by name; one that a prediction lacks is lost. A prediction's
            `visible` and `confidence` don't count: only where its points are.
        among: bool `[T, I, P]`, scores only these of the scored points, such as `pose.motion_px > 96`.

    Returns:
        `protocol` and `alpha`; `PCK` as a fraction 0..1; `points`, `frames` and `lost`: the number of scored
        points, of frames that have one, and of scored points without a prediction; `keypoints` and
        `instances`: PCK of each by name, None where no point of it is scored.

    Raises:
        ValueError: A frame without prediction, a prediction with unknown names, or no scored point.
    """
    scored = pose.scored if among is None else pose.scored & among
    predicted = places(pose, predictions, scored)
    threshold = pose.threshold_px[..., None]
    total = pck(pose.xy, predicted, scored, threshold)
    correct = correct_points(pose.xy, predicted, threshold)
    return {
        "protocol": pose.protocol,
        "alpha": pose.alpha,
        "PCK": total,
        "points": int(scored.sum()),
        "frames": int(scored.any((1, 2)).sum()),
        "lost": int((scored & ~np.isfinite(predicted).all(-1)).sum()),
        "keypoints": _shares(correct, scored, pose.names, axis=2),
        "instances": _shares(correct, scored, pose.instances, axis=1),
    }


def places(
    pose: PoseSet, predictions: Mapping[int, Keypoints], scored: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Where the points of a set are predicted, float32 `[T, I, P, 2]` pixels.

    Args:
        pose, predictions: see `score`.
        scored: bool `[T, I, P]`; None: those of the set. Only frames with such a point are looked at.

    Returns:
        nan where a point is lost, and in the frames that aren't looked at.

    Raises:
        ValueError: A frame without prediction, or a prediction with unknown names.
    """
    scored = pose.scored if scored is None else scored
    predicted = np.full_like(pose.xy, np.nan)
    for index, frame in enumerate(pose.numbers):
        if scored[index].any():
            if frame not in predictions:
                raise ValueError(f"{pose.name}: no prediction of frame {frame}")
            predicted[index] = _aligned(predictions[frame], pose.instances, pose.names)[0]
    return predicted


def checked_keypoints(
    folder: Path, needed: Sequence[int], instances: tuple[str, ...], names: tuple[str, ...]
) -> dict[int, Keypoints]:
    """Predicted keypoints of a folder for some frames; a frame that they lack has no instance.

    Args:
        folder: has the predictions.
        needed: frame numbers, ascending.
        instances, names: what can be predicted.

    Raises:
        InputError: They can't be read, have no frame from the first to the last of these, or other instances
            or keypoints.
    """
    path = folder / KEYPOINTS
    if not path.is_file():
        raise InputError(f"{path} is missing: each sequence needs its predicted keypoints.")
    found = read_keypoints(folder)
    if not any(needed[0] <= number <= needed[-1] for number in found):
        raise InputError(f"{path} has none of the frames {needed[0]} to {needed[-1]}: predict these.")
    any_frame = next(iter(found.values()))  # all frames of a file have the same
    for what, have, known in (
        ("instance", any_frame.instances, instances),
        ("keypoint", any_frame.names, names),
    ):
        for value in have:
            if value not in known:
                raise InputError(f"{path} has the {what} {value}, but the truth has {', '.join(known)}.")
    shape = (0, len(names))
    nothing = Keypoints(
        np.zeros((*shape, 2), np.float32), np.zeros(shape, bool), np.zeros(shape, np.float32), names, ()
    )
    return {number: found.get(number, nothing) for number in needed}


def _shares(
    correct: NDArray[np.bool_], scored: NDArray[np.bool_], labels: tuple[str, ...], axis: int
) -> dict[str, float | None]:
    """The share of scored points that are correct for each place on an axis; None where none is scored."""
    others = tuple(i for i in range(scored.ndim) if i != axis)
    counts = scored.sum(others), (correct & scored).sum(others)
    return {
        label: float(good / points) if points else None
        for label, points, good in zip(labels, *counts, strict=True)
    }


def _aligned(
    points: Keypoints, instances: tuple[str, ...], names: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Places `[I, P, 2]` and visibility `[I, P]` of a frame; nan and False for what it doesn't have."""
    for found, known in ((points.instances, instances), (points.names, names)):
        unknown = [value for value in found if value not in known]
        if unknown:
            raise ValueError(f"there is no {unknown[0]}: the truth has {', '.join(known)}")
    xy = np.full((len(instances), len(names), 2), np.nan, np.float32)
    visible = np.zeros(xy.shape[:2], bool)
    where = np.ix_([instances.index(v) for v in points.instances], [names.index(v) for v in points.names])
    xy[where], visible[where] = points.xy, points.visible
    return xy, visible


def silhouettes(frames: FrameFolder) -> Path:
    """The masks' folder in a DAVIS layout: ROOT/JPEGImages/480p/bear has ROOT/Annotations/480p/bear."""
    resolution = frames.path.absolute().parent
    return resolution.parent.parent / "Annotations" / resolution.name / frames.path.name


def _silhouette(masks: Path, frames: FrameFolder, number: int) -> Path:
    return masks / f"{frames.files[number].stem}.png"


def _animal_sizes(
    path: Path, frames: FrameFolder, masks: Path, numbers: tuple[int, ...], needed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Square root of the silhouette's area in pixels, `[T, 1]`; nan where it isn't needed."""
    if needed.shape[1] != 1:
        raise InputError(
            f"{path} has {needed.shape[1]} instances, but the protocol badja measures one animal by its mask."
        )
    if not masks.is_dir():
        raise InputError(
            f"{masks} is missing: the protocol badja needs the masks of the animal; choose another protocol "
            "if there are none."
        )
    sizes = np.full(needed.shape, np.nan)
    for index in np.flatnonzero(needed):
        file = _silhouette(masks, frames, numbers[index])
        mask = read_ids(file) != 0
        if mask.shape != frames.size:
            raise InputError(
                f"{file} has {mask.shape[1]}x{mask.shape[0]} pixels, but the frames have "
                f"{frames.size[1]}x{frames.size[0]}."
            )
        if not mask.any():
            raise InputError(f"{file} is empty: the protocol badja measures distances by the animal's area.")
        sizes[index] = np.sqrt(mask.sum())
    return sizes


def _head_sizes(
    path: Path, numbers: tuple[int, ...], instances: tuple[str, ...], needed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Size of each true head in pixels, `[T, I]`; nan where there is no box and none is needed."""
    rows = read_rows(path, "the boxes of heads (CSV), which the protocol posetrack needs")
    places = columns_of(rows[0], HEAD_COLUMNS, ())
    boxes = np.full((*needed.shape, 4), np.nan)
    for row in rows[1:]:
        same_length(row, len(places))
        cells = {column: row.cells[place] for column, place in places.items()}
        frame, instance = whole(cells["frame"], "frame", row.where), cells["instance"]
        box = np.array([number(cells[column], column, row.where) for column in HEAD_COLUMNS[2:]])
        if not (box[:2] < box[2:]).all():
            raise InputError(f"{row.where}: a head's box needs x1 < x2 and y1 < y2.")
        if frame not in numbers or instance not in instances:
            continue  # of a frame or person without keypoints
        where = numbers.index(frame), instances.index(instance)
        if not np.isnan(boxes[where]).any():
            raise InputError(f"{row.where}: frame {frame} has two heads of instance {instance}: remove one.")
        boxes[where] = box
    sizes = head_size(boxes)
    if (needed & np.isnan(sizes)).any():
        t, i = np.argwhere(needed & np.isnan(sizes))[0]
        raise InputError(f"{path} has no head of instance {instances[i]} in frame {numbers[t]}: add its box.")
    return sizes

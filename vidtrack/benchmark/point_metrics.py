"""The measures of TAP-Vid (Doersch et al. 2022, arXiv 2211.03726), on plain arrays.

They are equal to `compute_tapvid_metrics` of the authors' repository (google-deepmind/tapnet). Places are in
pixels of a raster of 256x256, whatever the size of the video: the thresholds mean these pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RASTER = 256  # pixels along both sides of the frame, in which distances are measured
THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of the raster
MODES = ("first", "strided")


def evaluated_frames(query_frames: ArrayLike, frames: int, mode: str) -> NDArray[np.bool_]:
    """Which frames of each query are evaluated, bool `[Q, T]`.

    Args:
        query_frames: the frame in which each query is given, int `[Q]`, 0 .. T - 1.
        frames: T, the number of frames of the video.
        mode: "first": the frames after that of the query. "strided": all frames but that of the query.

    Raises:
        ValueError: An unknown mode, or a query outside of the video.
    """
    if mode not in MODES:
        raise ValueError(f"there is no query mode {mode!r}: there is {', '.join(MODES)}")
    given = np.asarray(query_frames)
    if given.size and (given.min() < 0 or given.max() >= frames):
        raise ValueError(f"queries lie in frames {given.min()} to {given.max()}: there are {frames}")
    number = np.arange(frames)
    return number > given[:, None] if mode == "first" else number != given[:, None]


def tapvid_metrics(
    query_frames: ArrayLike,
    true_xy: ArrayLike,
    true_occluded: ArrayLike,
    predicted_xy: ArrayLike,
    predicted_occluded: ArrayLike,
    mode: str,
) -> dict[str, float]:
    """The scores of one video; those of a data set are their means over its videos.

    Q queries, T frames. A predicted place that is nan (a lost point) is wrong, and counts as occluded
    whatever `predicted_occluded` says. True places of occluded points are not looked at and may be nan.

    Args:
        query_frames: int `[Q]`, the frame in which each query is given.
        true_xy, predicted_xy: `[Q, T, 2]`, (x, y) in pixels of the raster (`RASTER`).
        true_occluded, predicted_occluded: bool `[Q, T]`, True where the point is not seen.
        mode: which frames are evaluated, see `evaluated_frames`.

    Returns:
        Fractions 0..1; over all evaluated frames of all queries together:

        - `occlusion_accuracy`: how often the predicted occlusion equals the true one.
        - `pts_within_{d}` for each d of `THRESHOLDS`: of the points that are truly visible, those predicted
          nearer than d (a distance of exactly d is too far), whether or not they are predicted as visible.
        - `jaccard_{d}`: TP / (TP + FP + FN). TP: truly visible, predicted as visible and nearer than d. FP:
          predicted as visible, but truly occluded or not nearer than d. FN: truly visible and no TP. A
          visible point that is predicted as visible in a wrong place is both FP and FN.
        - `average_pts_within_thresh`, `average_jaccard`: the means over the thresholds.

        A score whose denominator is 0 is nan: no frame is evaluated, no evaluated point is visible, or (for
        `jaccard_*`) none is visible and none is predicted as visible.

    Raises:
        ValueError: Shapes that don't fit, an unknown mode, or a query outside of the video.
    """
    occluded, lost, squared = _compare(true_xy, true_occluded, predicted_xy, predicted_occluded)
    evaluated = evaluated_frames(query_frames, occluded.shape[1], mode)
    if evaluated.shape != occluded.shape:
        raise ValueError(f"{len(evaluated)} query frames for {len(occluded)} queries")
    visible, said_visible = ~occluded & evaluated, ~lost & evaluated
    scores = {"occlusion_accuracy": _share((lost == occluded) & evaluated, evaluated)}
    for threshold in THRESHOLDS:
        correct = visible & (squared < threshold**2)  # nan is False
        false_positives = said_visible & ~correct
        scores[f"pts_within_{threshold}"] = _share(correct, visible)
        scores[f"jaccard_{threshold}"] = _share(correct & said_visible, visible, false_positives)
    for average, single in (("average_pts_within_thresh", "pts_within"), ("average_jaccard", "jaccard")):
        scores[average] = float(np.mean([scores[f"{single}_{threshold}"] for threshold in THRESHOLDS]))
    return scores


def within_by_frame(
    query_frames: ArrayLike,
    true_xy: ArrayLike,
    true_occluded: ArrayLike,
    predicted_xy: ArrayLike,
    mode: str,
) -> list[float | None]:
    """`average_pts_within_thresh` of each frame alone; None where no evaluated point is visible.

    Args and errors: see `tapvid_metrics`.
    """
    occluded, _, squared = _compare(true_xy, true_occluded, predicted_xy, true_occluded)
    scored = ~occluded & evaluated_frames(query_frames, occluded.shape[1], mode)
    within = np.mean([squared < threshold**2 for threshold in THRESHOLDS], axis=0)  # [Q, T]
    counts = scored.sum(0)
    return [float(within[scored[:, t], t].mean()) if count else None for t, count in enumerate(counts)]


def _compare(
    true_xy: ArrayLike, true_occluded: ArrayLike, predicted_xy: ArrayLike, predicted_occluded: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """True occlusion, predicted occlusion and squared distances, all `[Q, T]`."""
    truth, found = np.asarray(true_xy, np.float64), np.asarray(predicted_xy, np.float64)
    occluded, said = np.asarray(true_occluded), np.asarray(predicted_occluded)
    if (
        occluded.ndim != 2
        or said.shape != occluded.shape
        or not truth.shape == found.shape == (*said.shape, 2)
    ):
        shapes = ", ".join(str(list(array.shape)) for array in (truth, occluded, found, said))
        raise ValueError(f"expected [Q, T, 2], [Q, T], [Q, T, 2] and [Q, T], got {shapes}")
    if occluded.dtype != np.bool_ or said.dtype != np.bool_:
        raise ValueError(f"occlusion must be bool, not {occluded.dtype} and {said.dtype}")
    # A difference can overflow to inf, or be inf - inf: both are simply not near.
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.square(found - truth).sum(-1)
    return occluded, said | np.isnan(found).any(-1), squared


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_], more: NDArray[np.bool_] | None = None) -> float:
    """How many are true in `part`, for each that is in `whole` or `more`; nan where none is."""
    count = np.count_nonzero(whole) + (0 if more is None else np.count_nonzero(more))
    return float(np.count_nonzero(part) / count) if count else float("nan")

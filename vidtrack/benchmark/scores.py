"""Scores of sequences and their aggregates under the keys of the official DAVIS tool."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtrack.benchmark.metrics import contour_accuracy, region_similarity, statistics

Ids = NDArray[np.uint8]

KEYS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
MEAN_KEYS = ("J&F-Mean", "J-Mean", "F-Mean")


@dataclass(frozen=True)
class ObjectScores:
    """Scores of one object in one sequence.

    Attributes:
        J: region similarity of each frame, 0..1; None where it is not scored (first and last frame).
        F: contour accuracy, likewise.
    """

    J: tuple[float | None, ...]
    F: tuple[float | None, ...]

    def summary(self) -> dict[str, float]:
        """The official keys for this object alone."""
        j = statistics([value for value in self.J if value is not None])
        f = statistics([value for value in self.F if value is not None])
        values = ((j.mean + f.mean) / 2, j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)
        return dict(zip(KEYS, values, strict=True))

    def series(self) -> list[float | None]:
        """The mean of J and F of each frame."""
        pairs = zip(self.J, self.F, strict=True)
        return [None if j is None or f is None else (j + f) / 2 for j, f in pairs]

    def to_json(self) -> dict[str, Any]:
        """The official keys, and the scores per frame under `J` and `F`."""
        return {**self.summary(), "J": list(self.J), "F": list(self.F)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ObjectScores:
        """The inverse of `to_json`."""
        return cls(J=tuple(value["J"]), F=tuple(value["F"]))


def score_sequence(
    annotations: Iterable[Ids], results: Iterable[Ids], objects: Iterable[int], void: int | None = None
) -> dict[int, ObjectScores]:
    """Score the result of one sequence, frame by frame: two frames are in memory at a time.

    Args:
        annotations: ids of all frames in order of time, uint8 `[H, W]` each.
        results: ids of the same frames. Those of the first frame (it was given) and of the last are drawn
            but not scored, as in the official tool; ids that are not in `objects` count as background.
        objects: ids to score.
        void: id of annotation pixels that are not scored.

    Returns:
        Scores of each object, in the order of `objects`.

    Raises:
        ValueError: There are fewer than three frames, annotations and results differ in number or size.
    """
    objects = tuple(objects)
    scores: dict[int, list[tuple[float, float]]] = {id_: [] for id_ in objects}
    previous: tuple[Ids, Ids] | None = None
    count = 0
    for annotation, result in zip(annotations, results, strict=True):
        # Only when a next frame arrives is it certain that the previous one isn't the last.
        if count >= 2 and previous is not None:
            for id_ in objects:
                scores[id_].append(score_object(*previous, id_, void))
        previous = annotation, result
        count += 1
    if count < 3:
        raise ValueError(f"scores need at least three frames, got {count}: first and last are not scored")
    return {
        id_: ObjectScores(J=(None, *(j for j, _ in values), None), F=(None, *(f for _, f in values), None))
        for id_, values in scores.items()
    }


def summarize(objects: Iterable[ObjectScores]) -> dict[str, float]:
    """The official keys, 0..1, over any number of objects: each is the mean over objects.

    Objects of all sequences weigh the same, however long or crowded their sequence is, as in the official
    tool. J&F-Mean is the mean of J-Mean and F-Mean.

    Raises:
        ValueError: There are no objects.
    """
    summaries = [scores.summary() for scores in objects]
    if not summaries:
        raise ValueError("there are no objects to summarize")
    return {key: float(np.mean([summary[key] for summary in summaries])) for key in KEYS}


def mean_scores(objects: Iterable[ObjectScores]) -> dict[str, float | None]:
    """J&F, J and F as means over objects, each of which is a mean over its scored frames.

    Objects without a scored frame don't count; with none left all scores are None.
    """
    means = [
        [float(np.mean([value for value in values if value is not None])) for values in (scores.J, scores.F)]
        for scores in objects
        if any(value is not None for value in scores.J)
    ]
    if not means:
        return dict.fromkeys(MEAN_KEYS)
    j, f = (float(value) for value in np.mean(means, axis=0))
    return dict(zip(MEAN_KEYS, ((j + f) / 2, j, f), strict=True))


def score_object(annotation: Ids, result: Ids, id_: int, void: int | None) -> tuple[float, float]:
    """J and F of the object `id_` in one frame; pixels of the annotation that are `void` don't count."""
    ignored = None if void is None else annotation == void
    if ignored is not None and not ignored.any():
        ignored = None
    truth, found = annotation == id_, result == id_
    return float(region_similarity(truth, found, ignored)), float(contour_accuracy(truth, found, ignored))

"""Confidence of carried masks: the J that each is expected to have, by how it looks in its label map.

Three things are seen without a second pass. The label of an object that is followed well is decided (its
probabilities are near 1), looks on average like it did where it was annotated, and is in one piece. A
logistic regression turns them into an expected J. Where two passes meet, how probable the object is in its
pixels tells more: there the passes agree. The coefficients were fitted by

    python tests/benchmarks/trust.py --data $VIDTRACK_DATA/eval

on ten sequences with the default tracker. With other trackers a higher value still means better, but the
values are no longer expected J: embeddings of another network are alike to another degree.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.propagate.fusion import decidedness

# Bias, then the weights of decidedness, likeness and wholeness.
CALIBRATION = (-9.87, 4.47, 6.41, 1.44)
JOINED = (-5.09, 7.84)  # of two passes: bias, and the weight of the mean probability
INSIDE = 0.5  # cells with more of an object's label than this are its pieces


class MaskConfidence:
    """Expected J of the objects of one pass; knows how they looked where they were annotated."""

    def __init__(self) -> None:
        self._looks: list[Tensor] = []  # of the annotation behind and perhaps the one ahead, [objects, C]

    def annotate(self, embedding: Tensor, labels: Tensor) -> None:
        """Start from an annotated frame: embedding `[h, w, C]`, label map `[h, w, 1 + objects]`."""
        self._looks = [looks(embedding, labels)]

    def look_ahead(self, embedding: Tensor, labels: Tensor) -> None:
        """The annotation that the pass goes to: objects may look like in either."""
        self._looks = [*self._looks[:1], looks(embedding, labels)]

    def evidence(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """What is seen of each object in a frame: float32 `[objects, 3]`, each value in 0..1.

        Args:
            embedding: of the frame, unit vectors `[h, w, C]`; needed only where an object has a label.
            labels: carried label map `[h, w, 1 + objects]`, channel 0 background.

        Returns:
            Per object its decidedness (see `vidtrack.propagate.fusion`), likeness (cosine of its mean
            embedding with that of the annotation, the more alike one if there are two) and wholeness (share
            of its cells in the largest connected piece). The last two are 0 for one without a label.
        """
        objects = labels[..., 1:]
        now = looks(embedding, labels)
        alike = torch.stack([(now * then).sum(dim=-1) for then in self._looks]).amax(dim=0).clamp(0, 1)
        whole = [_wholeness(inside) for inside in (objects > INSIDE).permute(2, 0, 1).cpu().numpy()]
        return torch.stack(
            [decidedness(labels[..., 1:]), alike, torch.tensor(whole, device=labels.device)], dim=-1
        )

    def __call__(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Expected J of each object, float32 `[objects]` in 0..1; arguments as `evidence`."""
        return expected(self.evidence(embedding, labels), CALIBRATION)


def looks(embedding: Tensor, labels: Tensor) -> Tensor:
    """Mean embedding of each object, weighted by its label: unit vectors float32 `[objects, C]`, or 0."""
    cells = labels[..., 0] < 1
    weights = labels[cells][:, 1:]  # [n, objects]
    seen = torch.where(weights.sum(dim=1, keepdim=True) > 0, embedding[cells].float(), 0)
    return F.normalize(weights.T @ seen, dim=-1)


def joined(probability: float) -> float:
    """Expected J of an object that two passes made together, of its mean probability in the frame (0..1).

    Where the passes disagree, their joined labels are in between. Expected J of either pass beside it
    foretells J of left-out sequences no better.
    """
    return float(expected(torch.tensor([probability]), JOINED))


def expected(evidence: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The logistic of a weighted sum: evidence `[..., n]`, bias and n weights; returns `[...]` in 0..1."""
    bias, *weights = coefficients
    return torch.sigmoid(bias + evidence @ evidence.new_tensor(weights))


def _wholeness(inside: np.ndarray) -> float:
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    if count < 2:
        return 0.0
    areas = stats[1:, cv2.CC_STAT_AREA]
    return float(areas.max() / areas.sum())

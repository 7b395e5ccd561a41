"""The baseline "copy": every frame gets the labels of its annotation as they are."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from torch import Tensor

from vidtrack.propagate.carrier import Carrier, Confidence


class CopyCarrier(Carrier[Any, Any]):
    """Copies labels of any kind.

    Args:
        like: the carrier of the kind of label; it knows what empty labels are.
    """

    def __init__(self, like: Carrier[Any, Any]) -> None:
        self._like = like
        self._labels: Any = None

    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Any) -> None:
        """From now on these labels."""
        self._labels = copy.deepcopy(labels)

    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: Any) -> None:
        """Copies come from behind only."""

    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> Any:
        """The annotation behind."""
        return self._labels

    def read(self, carried: Any, image: np.ndarray) -> tuple[Any, Confidence]:
        """What was carried, sure of it."""
        return copy.deepcopy(carried), self._like.given(carried)

    def fuse(self, earlier: Any, later: Any, share: float) -> Any:
        """The nearer one."""
        return later if share > 0.5 else earlier

    def pack(self, carried: Any) -> dict[str, np.ndarray]:
        """Nothing: what is copied is known."""
        return {}

    def unpack(self, arrays: dict[str, np.ndarray]) -> Any:
        """The annotation behind."""
        return self._labels

    def empty(self, frame: tuple[int, int]) -> Any:
        """As the kind of label says."""
        return self._like.empty(frame)

    def given(self, labels: Any) -> Confidence:
        """As the kind of label says."""
        return self._like.given(labels)

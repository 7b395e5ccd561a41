"""What every kind of label has in common: annotate a frame, step to the next, read out what was carried."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

L = TypeVar("L")  # the labels of one frame as users know them: Masks, Keypoints, Boxes, Maps
S = TypeVar("S")  # what is carried of one frame: small, at the resolution of the embeddings

Confidence = dict[Any, float]


class Carrier(ABC, Generic[L, S]):
    """Carries one kind of label along one pass, forward or backward, through a video.

    `frame` is always `(height, width)` of the frames in pixels.
    """

    @abstractmethod
    def annotate(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: L) -> None:
        """Start anew from an annotated frame."""

    @abstractmethod
    def look_ahead(self, index: int, embedding: Tensor, frame: tuple[int, int], labels: L) -> None:
        """The annotated frame that the pass will come to next: frames on the way there attend to it."""

    def region(self, later: int = 0) -> Tensor | None:
        """bool `[h, w]`: cells of the next frame whose embedding matters; None: all.

        Args:
            later: frames between the last step and the frame in question.
        """
        return None

    @abstractmethod
    def step(self, index: int, embedding: Tensor, image: np.ndarray, region: Tensor | None = None) -> S:
        """Carry the labels to the next frame; cells outside of `region` have no embedding."""

    @abstractmethod
    def read(self, carried: S, image: np.ndarray) -> tuple[L, Confidence]:
        """From what was carried to the labels of the frame and how far each can be trusted, 0..1."""

    @abstractmethod
    def fuse(self, earlier: S, later: S, share: float) -> S:
        """Join what two passes say of one frame.

        Args:
            earlier: carried from the annotation before the frame.
            later: carried back from the annotation after it.
            share: where the frame lies between the two, 0 at the earlier and 1 at the later.
        """

    @abstractmethod
    def pack(self, carried: S) -> dict[str, np.ndarray]:
        """Arrays to lay aside on disk."""

    @abstractmethod
    def unpack(self, arrays: dict[str, np.ndarray]) -> S:
        """Inverse of `pack`."""

    @abstractmethod
    def empty(self, frame: tuple[int, int]) -> L:
        """The labels of a frame that no annotation reaches."""

    @abstractmethod
    def given(self, labels: L) -> Confidence:
        """The confidence of an annotation: 1 for everything in it."""

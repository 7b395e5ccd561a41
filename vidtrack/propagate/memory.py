"""The memory that a frame attends to: annotated frames and the last few frames, bounded for ever."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Kept:
    """One frame in memory.

    Attributes:
        index: frame number.
        keys: the frame's embedding as `vidtrack.pointers.as_keys` makes it.
        labels: label map of the cells, float32 `[h, w, K]`; channel 0 is the background.
    """

    index: int
    keys: Tensor
    labels: Tensor


class Memory:
    """The first annotation, the latest annotation, and the last `context` frames.

    Args:
        context: number of previous frames.
    """

    def __init__(self, context: int) -> None:
        self.annotated: list[Kept] = []
        self.recent: deque[Kept] = deque(maxlen=context)

    def annotate(self, kept: Kept) -> None:
        """Add an annotated frame: the first one stays for ever, a later one until the next comes."""
        self.annotated = [*self.annotated[:1], kept]
        self.recent.append(kept)

    def add(self, kept: Kept) -> None:
        """Add a frame; the oldest of the recent ones goes."""
        self.recent.append(kept)

    def frames(self) -> list[Kept]:
        """The frames to attend to, each once, annotated ones first."""
        recent = {kept.index for kept in self.recent}
        return [*(kept for kept in self.annotated if kept.index not in recent), *self.recent]

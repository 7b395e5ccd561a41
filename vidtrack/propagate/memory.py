"""The memory that a frame attends to: the nearest annotations and a few frames before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vidtrack.pointers import Keys


@dataclass(eq=False)
class Kept:
    """One frame in memory.

    Attributes:
        index: frame number.
        keys: the frame's embedding as `vidtrack.pointers.as_keys` makes it.
        patches: the labels in each cell, float32 `[h, w, K]`; of finer label maps K for each place in it.
        labelled: bool `[h, w]`: where the label map says more than "background".
    """

    index: int
    keys: Keys
    patches: Tensor
    labelled: Tensor


Follow = Callable[[Kept, Kept], Kept | None]


class Memory:
    """The annotation that the pass came from, the one it goes to, and earlier frames of the pass.

    An annotation says all about its frame, so that everything before it is forgotten: a frame depends on
    nothing beyond its two neighbouring annotations, and a new one changes only the frames between these.

    Args:
        gaps: which of the frames before are attended to, in frames: (1, 3, 6) are the last one, the third and
            the sixth before.
        follow: makes of an annotated frame and the newest one another to attend to, see
            `vidtrack.propagate.following`.
    """

    def __init__(self, gaps: tuple[int, ...], follow: Follow | None = None) -> None:
        self.gaps, self.follow = gaps, follow
        self.behind: Kept | None = None
        self.ahead: Kept | None = None
        self.recent: deque[Kept] = deque(maxlen=max(gaps))  # the last is the newest
        self._annotated: list[Kept] | None = None  # as long as nothing changes

    def annotate(self, kept: Kept) -> None:
        """Start anew from an annotated frame."""
        self.behind, self.ahead, self._annotated = kept, None, None
        self.recent.clear()
        self.recent.append(kept)

    def look_ahead(self, kept: Kept | None) -> None:
        """The next annotation of the pass, attended to from half-way on; None: there is none."""
        self.ahead, self._annotated = kept, None

    def add(self, kept: Kept) -> None:
        """Add a frame; the oldest of the recent ones goes."""
        self.recent.append(kept)
        self._annotated = None

    def nearer_ahead(self) -> bool:
        """The pass has come nearer to the annotation ahead than to the one behind: from here on it helps.

        Before, what it shows lies elsewhere, and background that has no match behind would point to it.
        """
        if self.behind is None or self.ahead is None:
            return False
        now = self.recent[-1].index
        return abs(self.ahead.index - now) < abs(now - self.behind.index)

    def annotated(self) -> list[Kept]:
        """The annotated ones of the frames to attend to; first what `follow` makes of each."""
        if self._annotated is None:
            given = [kept for kept in (self.behind, self.ahead if self.nearer_ahead() else None) if kept]
            made = [self.follow(kept, self.recent[-1]) for kept in given] if self.follow else []
            self._annotated = [kept for kept in made if kept] + given
        return self._annotated

    def frames(self) -> list[Kept]:
        """The frames to attend to, each once, annotated ones first."""
        recent = [self.recent[-gap] for gap in self.gaps if gap <= len(self.recent)]
        annotated = self.annotated()
        return annotated + [kept for kept in recent if all(kept is not other for other in annotated)]

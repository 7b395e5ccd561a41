"""How a run goes: what the options of the command line say beside what is annotated and what tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vidtrack.given import Direction
from vidtrack.tolerance import OnError

Progress = Callable[[int, int | None], None]  # frames done, and all of them (None: unknown)
Tell = Callable[[str], None]  # a line for the terminal


@dataclass(frozen=True)
class Plan:
    """How a run goes.

    Attributes:
        direction, start, end: see `Passes`; of a live source, `end` is the number of frames to take.
        saves: outputs beyond the usual ones, see the classes in `vidtrack.job.outputs`.
        overlay: write `overlay.mp4`.
        overwrite: replace an existing folder of results; what would come out the same is taken from it.
        on_error: what is done about damaged frames, see `Tolerance`.
        cache_bytes: room for embeddings that later runs use again, see `EmbeddingCache`; 0: none are kept.
    """

    direction: Direction = "forward"
    start: int = 0
    end: int | None = None
    saves: frozenset[str] = field(default_factory=frozenset)
    overlay: bool = True
    overwrite: bool = False
    on_error: OnError = "repeat"
    cache_bytes: int = 0


def default_out(video: Path, suffix: str = "vidtrack") -> Path:
    """`<stem>_<suffix>` in the current folder."""
    return Path(f"{video.absolute().stem if video.suffix else video.absolute().name}_{suffix}")

"""What a run will need: frames, time, memory and room on the disk."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterable

from pretrain.errors import InputError
from vidtrack.benchmark.environment import memory_mb
from vidtrack.geometry import cells, working_size
from vidtrack.job.manifest import channels
from vidtrack.job.outputs import About
from vidtrack.job.plan import Progress, Tell
from vidtrack.labels import Boxes, Keypoints, Maps
from vidtrack.model.embedder import NetworkEmbedder
from vidtrack.passes import Span
from vidtrack.pointers.keys import TILE
from vidtrack.propagate.masks import FINE
from vidtrack.tracker import Tracker

HEADER = 550  # bytes of an .npz with two arrays beside these
MORE = 260  # bytes that each further array needs
# What a run takes beside what is loaded, in bytes. Measured on 160x120 to 3840x2160, and a fifth added.
FIXED = 60e6
PER_PIXEL = 240.0  # of the frames: decoded ones on their way, and the encoder of the overlay
PER_WORKING_PIXEL = 380.0  # of the size at which embeddings are computed: the network's activations
PER_OBJECT = 9.0  # bytes of a working pixel
KEY = 2 * (256 + 16)  # of a cell that is remembered, see `vidtrack.pointers.keys`
STEPS, SECONDS = 4, 1.0  # frames, and time that they took, from which the rest is estimated


def laid_aside_bytes(about: About, lengths: Iterable[int]) -> int:
    """Room on the disk that backward passes take at most, in bytes; one stretch is laid aside at a time.

    Args:
        about: see `About`.
        lengths: frames of each stretch that is carried backward.
    """
    grid = cells(about.working[0], about.stride) * cells(about.working[1], about.stride)
    carried = channels(about.labels)
    if about.kind is Keypoints:
        frame = 12 * len(carried[0]) * len(carried[1])  # as the carriers pack them: x, y, confidence
    elif about.kind is Boxes:
        labels = grid * FINE**2 * (1 + len(carried))
        frame = 2 * (labels + grid)  # half precision: background and objects, similarity
    elif about.kind is Maps:
        frame = grid * (4 * (1 + carried[0]) + 2)
    else:
        labels = grid * FINE**2 * (1 + len(carried))  # bytes; the confidence in two
        frame = labels + grid + 2 * len(carried) + MORE
    return max(((frame + HEADER) * length for length in lengths), default=0)


def memory_bound_mb(
    tracker: Tracker, size: tuple[int, int], objects: int = 1, context: int | None = None, both: bool = False
) -> float | None:
    """What a run takes at most, however long the video is: the memory for ever is that of a few frames.

    Args:
        tracker: that is loaded; the bound was measured for the project's own network on a processor.
        size: `(height, width)` of the frames in pixels.
        objects: number of masks or boxes.
        context: how far back frames are attended to; None: that of masks.
        both: in two passes, or with embeddings on disk: whole frames are embedded.

    Returns:
        10^6 bytes, with what is loaded now; None where that isn't known, or for other trackers.
    """
    now, embedder, settings = memory_mb(), tracker.embedder, tracker.settings
    if now is None or not isinstance(embedder, NetworkEmbedder) or embedder.device.type != "cpu":
        return None
    if settings.preset is not None:
        return None
    working = working_size(*size, settings.size)
    border = 2 * settings.radius + TILE - 1
    key = (cells(working[0], embedder.stride) + border) * (cells(working[1], embedder.stride) + border) * KEY
    annotated = 4 if settings.annotated else 2  # behind and ahead, and each with its objects moved
    frames = (context or max(settings.context)) + annotated
    more = FIXED + PER_PIXEL * size[0] * size[1] + PER_OBJECT * objects * working[0] * working[1]
    more += (key * frames + PER_WORKING_PIXEL * working[0] * working[1]) * (2 if both else 1)
    return now + more / 1e6


def stated(bound_mb: float) -> str:
    """A bound in GB for people to read, rounded up to a tenth: what is stated must hold."""
    return f"at most {math.ceil(bound_mb / 100) / 10:.1f} GB"


def require_room(needed: int) -> None:
    """Raises InputError if the folder of temporary files has no room for `needed` bytes."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the backward pass needs {needed / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free: "
            "annotate a frame in the middle, or name another folder in the environment variable TMPDIR."
        )


def backward_lengths(spans: Iterable[Span], start: int) -> list[int]:
    """Frames of each span that a backward pass carries labels through."""
    return [ahead - (start if behind is None else behind + 1) for behind, ahead in spans if ahead is not None]


class Meter:
    """Counts what is done, and tells once how long the rest will take.

    Args:
        total: frames to do, a frame that is passed in both directions counting twice; None: unknown.
        known: how many of these need no computing.
        progress: called with what is done and all there is to do.
        tell: called with one line of text.
    """

    def __init__(
        self,
        total: int | None,
        known: int,
        progress: Progress | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._total, self._work = total, None if total is None else total - known
        self._progress, self._tell = progress, tell
        self._done = self._worked = 0
        self._began: float | None = None

    def backward(self) -> None:
        """A frame of a backward pass is done."""
        self._count(True)

    def result(self, computed: bool) -> None:
        """The result of a frame is there; `computed`: it was not known before."""
        self._count(computed)

    def _count(self, computed: bool) -> None:
        self._done += 1
        self._worked += computed
        if computed:
            self._estimate()
        if self._progress:
            self._progress(self._done, None if self._total is None else max(self._total, self._done))

    def _estimate(self) -> None:
        now = time.perf_counter()
        if self._began is None:  # from the first frame on: it also warms up
            self._began = now
            return
        steps, seconds = self._worked - 1, now - self._began
        if self._tell is None or self._work is None or steps < STEPS or seconds < SECONDS:
            return
        left = max(0, self._work - self._worked) * seconds / steps
        self._tell(f"expected: {clock(left + seconds)}, at {steps / seconds:.1f} frames/s")
        self._tell = None


def clock(seconds: float) -> str:
    """`1:02:03` hours or `2:03 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"

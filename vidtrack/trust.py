"""From confidences over time: where labels drift off, and which frames to annotate next.

Everything here works on plain arrays: for each object (or instance) one confidence per frame, float `[T]` in
0..1. It is nan where nothing is expected of the object (no annotation reaches the frame, or one said that it
is gone), and 0 where it should be and is not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = Mapping[str, NDArray[np.float64]]

LOW = 0.5  # an object below it is probably off: J of 0.5 is where DAVIS counts a frame as failed
DROP = 0.25  # ... and one that loses as much within `WINDOW` frames is on its way
WINDOW = 10  # frames
CALM = 0.05  # how far above its limits a confidence must rise before an alarm ends
CANDIDATES = 200  # frames that are compared for a proposal, at equal distances in long videos
REACH = 1.0  # share of a stretch between annotations within which a new one makes a difference
WORTH = 0.002  # expected gain, in confidence on average over all frames, below which nothing is proposed


@dataclass(frozen=True)
class Alarm:
    """A stretch of frames in which an object drifts off.

    Attributes:
        object: key of its series.
        frame, last: positions of the first and the last frame of the stretch.
        before: highest confidence within `WINDOW` frames before it.
        lowest: lowest confidence inside; 0: the object is not seen.
    """

    object: str
    frame: int
    last: int
    before: float
    lowest: float

    def sentence(self, what: str = "object", first: int = 0) -> str:
        """One sentence for the user; `first` is the number of the frame at position 0."""
        begin, end = self.frame + first, self.last + first
        where = f"in frame {begin}" if begin == end else f"in frames {begin} to {end}"
        if self.lowest == 0:
            return f"{what} {self.object} may be lost {where}: it is not seen in some of them."
        return (
            f"{what} {self.object} may drift {where}: its confidence falls from {self.before:.2f} "
            f"to {self.lowest:.2f}."
        )


@dataclass(frozen=True)
class Proposal:
    """A frame that is worth annotating.

    Attributes:
        frame: its position.
        gain: how much the mean confidence over all objects and frames is expected to rise, 0..1, beyond
            what the proposals before it bring.
    """

    frame: int
    gain: float


def alarms(series: Series, annotated: Collection[int] = ()) -> list[Alarm]:
    """Where objects drift off, in order of time.

    An alarm begins where the confidence is below `LOW`, or `DROP` below its highest value of the last
    `WINDOW` frames while it keeps falling. It ends at an annotated frame, or where the confidence is above
    `LOW` by `CALM` and, if it began by a drop, has made up for half of that drop.

    Args:
        series: confidences `[T]` by object.
        annotated: positions of annotated frames.
    """
    found = [alarm for key, values in series.items() for alarm in _alarms(key, values, frozenset(annotated))]
    return sorted(found, key=lambda alarm: (alarm.frame, alarm.object))


def _alarms(key: str, values: NDArray[np.float64], annotated: frozenset[int]) -> list[Alarm]:
    found = []
    start, before = None, 0.0
    since = 0  # what lies before an annotation, or before the last alarm ended, is no measure
    for t, value in enumerate(values):
        known = not np.isnan(value)
        if start is not None and (t in annotated or not known or value >= _enough(values[start], before)):
            found.append(_alarm(key, values, start, t - 1, before))
            start, since = None, t
        if t in annotated:
            since = t
        elif known and start is None:
            recent = values[max(since, t - WINDOW) : t + 1]
            highest = float(np.nanmax(recent))
            if value < LOW or highest - value >= DROP:
                start, before = t, highest
    if start is not None:
        found.append(_alarm(key, values, start, len(values) - 1, before))
    return found


def _enough(value: float, before: float) -> float:
    """The confidence that ends an alarm which began with `value`."""
    return max(LOW + CALM, min(value + CALM, 1.0) if value < LOW else (value + before) / 2)


def _alarm(key: str, values: NDArray[np.float64], start: int, last: int, before: float) -> Alarm:
    return Alarm(key, start, last, before, float(values[start : last + 1].min()))


def proposals(series: Series, annotated: Collection[int], count: int = 3) -> list[Proposal]:
    """The frames to annotate next, the most useful first.

    Loss is 1 - confidence. An annotation is expected to take away the loss of its own frame and, on both
    sides, a share of the others' that falls linearly to nothing at `REACH` of the stretch that it lies in,
    which goes from one annotated frame to the next or to the end of the video. (In a pass in one direction
    too: frames attend to the annotation ahead of them.) The frame with the largest sum of what is won over
    all objects and frames is proposed, and the next one given that it is annotated.

    The rule and `REACH` (0.8 to 3 propose the same frames there) were chosen among several on
    DAVIS-2016-dev: frames of the largest loss, or those where a loss sets in, gained less than the middle of
    the video. `tests/benchmarks/proposals.py` measures what is gained.

    Args:
        series: confidences `[T]` by object, all of one length.
        annotated: positions of the annotated frames, at least one.
        count: how many at most; fewer if no more are worth it.

    Raises:
        ValueError: nothing is annotated.
    """
    if not annotated:
        raise ValueError("proposals need at least one annotated frame")
    if not series:
        return []
    given = sorted(annotated)
    # Where nothing is expected of an object, nothing can be won.
    loss = np.stack(
        [1 - np.nan_to_num(np.asarray(values, np.float64), nan=1.0) for values in series.values()]
    )
    whole, loss = loss.size, loss.sum(axis=0)  # [T]
    length = len(loss)
    candidates = sorted({round(t) for t in np.linspace(0, length - 1, min(length, CANDIDATES)).tolist()})
    chosen: list[Proposal] = []
    while len(chosen) < count:
        best: tuple[float, int, NDArray[np.float64]] | None = None
        for t in candidates:
            if t not in given:
                won = loss * _share(t, given, length)
                gain = float(won.sum()) / whole
                if best is None or gain > best[0]:
                    best = gain, t, loss - won
        if best is None or best[0] < WORTH:
            break
        chosen.append(Proposal(best[1], best[0]))
        given, loss = sorted([*given, best[1]]), best[2]
    return chosen


def _share(t: int, given: list[int], length: int) -> NDArray[np.float64]:
    """The share `[T]` of each frame's loss that annotating frame `t` is expected to take away."""
    low = max((n for n in given if n < t), default=-1)
    high = min((n for n in given if n > t), default=length)
    frames = np.arange(length)
    share = np.maximum(0, 1 - np.abs(frames - t) / (REACH * (high - low)))
    return np.where((frames > low) & (frames < high), share, 0)

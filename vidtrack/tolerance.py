"""What a run does about frames that can't be decoded whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

from pretrain.errors import InputError
from vidtrack.video import Damage, Frame

OnError = Literal["stop", "skip", "repeat"]
ON_ERROR: tuple[str, ...] = get_args(OnError)
MOST = Fraction(1, 10)  # share of the frames that may be made up before the others mean little
_GO_ON = "replace the file, or go on with --on-error repeat or skip"


class Tolerance:
    """Decides about the damaged frames of one run.

    `stop` refuses the first of them and any other damage. `skip` leaves them out: they get no labels, and
    the tracker doesn't see them. `repeat` takes them as the reader gives them, as the frame before once more
    or what could be decoded; when they are more than a tenth of all frames, it ends the run.

    Args:
        on_error: see above.
        source: what the user calls the video.
        total: number of its frames as far as it is known in advance, else None.
        limited: False lets `repeat` take any number, for live sources, which come only once.

    Raises:
        InputError: an unknown word.
    """

    def __init__(self, on_error: OnError, source: object, total: int | None, limited: bool = True) -> None:
        if on_error not in ON_ERROR:
            raise InputError(f"--on-error {on_error} is unknown: choose stop, skip or repeat.")
        self.on_error, self._source = on_error, source
        self._total, self._limited = total, limited
        self._damaged: set[int] = set()

    def skips(self, frame: Frame) -> bool:
        """Whether a frame is left out."""
        return frame.damaged and self.on_error == "skip"

    def see(self, frame: Frame) -> None:
        """Take note of a frame; in two passes it may come twice.

        Raises:
            InputError: it is damaged, and the run must not go on.
        """
        if not frame.damaged:
            return
        if self.on_error == "stop":
            raise InputError(f"{self._source}: frame {frame.index} can't be decoded whole: {_GO_ON}.")
        self._damaged.add(frame.index)
        if self._total is not None:
            self._limit(self._total)

    def require_whole(self, frame: Frame) -> None:
        """Raises InputError if an annotated frame is damaged, unless damaged frames are taken as they are."""
        if frame.damaged and self.on_error != "repeat":
            raise InputError(
                f"{self._source}: frame {frame.index}, which is annotated, can't be decoded whole: annotate "
                "another frame, or add --on-error repeat."
            )

    def require_no_loss(self, damage: Damage) -> None:
        """Raises InputError if `stop` is asked for and something is lost that was no frame of its own."""
        if self.on_error != "stop":
            return
        for lost, what in (
            (damage.lost_first, "the frames before the first readable one are lost"),
            (damage.early, "it ends early"),
            (damage.torn, "some of its data can't be read"),
        ):
            if lost:
                raise InputError(f"{self._source} is damaged, {what}: {_GO_ON}.")

    def finish(self, count: int, damage: Damage) -> None:
        """The video is at its end.

        Args:
            count: number of its frames.
            damage: what the reader knows of it.

        Raises:
            InputError: what is only known now must end the run.
        """
        self._total = count
        self._limit(count)
        self.require_no_loss(damage)

    def _limit(self, total: int) -> None:
        if self._limited and self.on_error == "repeat" and len(self._damaged) > MOST * total:
            raise InputError(
                f"{self._source}: {len(self._damaged)} of {total} frames can't be decoded whole, more than a "
                "tenth: replace the file, or leave these frames without labels by --on-error skip."
            )


def describe_damage(frames: Sequence[Mapping[str, Any]], on_error: OnError, damage: Damage) -> dict[str, Any]:
    """What could not be decoded, for `report.json`.

    Args:
        frames: what the report tells of each frame, in order.
        on_error: what was done about damaged ones.
        damage: what the reader knows of the video.
    """
    return {
        "on_error": on_error,
        "damaged_frames": [frame["index"] for frame in frames if frame["damaged"]],
        "doubtful_frames": _ranges(frame["index"] for frame in frames if frame["doubtful"]),
        "skipped_frames": [frame["index"] for frame in frames if frame["skipped"]],
        "lost_before_first": damage.lost_first,
        "ends_early": damage.early,
        "unreadable_data": damage.torn,
    }


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """First and last of each run of numbers that follow each other."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found

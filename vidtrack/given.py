"""Where labels are given, and which frames of a video they reach: what must hold before a pass begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from pretrain.errors import InputError
from vidtrack.labels import Keypoints, Maps

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)


def check_frames(annotations: Mapping[int, Any], direction: str, start: int, end: int | None) -> None:
    """Check which frames are annotated.

    Args:
        annotations: by frame number.
        direction: in which labels are carried.
        start: first frame that is wanted.
        end: the frame after the last, or None: up to the end of the video.

    Raises:
        InputError: an unknown direction, no frame is wanted or annotated, one that isn't wanted is annotated,
            or labels would be carried to no frame at all.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"--direction {direction} is unknown: choose forward, backward or both.")
    if end is not None and end <= start:
        raise InputError(f"--end {end} is the frame after the last: it must be more than --start {start}.")
    if not annotations:
        raise InputError("nothing is annotated: give the labels of at least one frame.")
    for number in annotations:
        if not isinstance(number, (int, np.integer)):
            raise InputError(f"{number!r} is no frame number: annotations are given by ints, from 0.")
        if number < start or (end is not None and number >= end):
            wanted = f"from {start} on" if end is None else f"{start} to {end - 1}"
            raise InputError(f"frame {number} is annotated, and only frames {wanted} are wanted.")
    if direction == "backward" and max(annotations) == start:
        raise InputError(
            f"--direction backward carries labels to the frames before, and none is wanted before {start}: "
            "say which later frame the labels are of, as in --mask 23=FILE, or take another direction."
        )


def check_layouts(annotations: Mapping[int, Any]) -> None:
    """Raises InputError if annotations, all of one kind, name other points or have other channels."""
    first, known = next(iter(annotations.items()))
    for number, labels in annotations.items():
        if isinstance(labels, Keypoints) and (labels.names, labels.instances) != (
            known.names,
            known.instances,
        ):
            raise InputError(
                f"the annotations of frames {first} and {number} name other keypoints or instances: give "
                "both all of them, without a place where they are not seen."
            )
        if isinstance(labels, Maps) and labels.values.shape[-1] != known.values.shape[-1]:
            raise InputError(
                f"the maps of frames {first} and {number} have {known.values.shape[-1]} and "
                f"{labels.values.shape[-1]} values per pixel: give all maps the same number."
            )


def reaches(annotations: Mapping[int, Any], direction: Direction, index: int) -> bool:
    """A frame is annotated, or labels are carried to it."""
    if direction == "both":
        return True
    return index >= min(annotations) if direction == "forward" else index <= max(annotations)


def unreached(annotations: Mapping[int, Any], direction: Direction, start: int, last: int) -> list[str]:
    """A sentence about the frames from `start` to `last` to which no labels are carried."""
    if direction == "forward":
        begin, end, where = start, min(annotations) - 1, "before the first"
    elif direction == "backward":
        begin, end, where = max(annotations) + 1, last, "after the last"
    else:
        return []
    if begin > end:
        return []
    which = f"frames {begin} to {end} lie" if begin < end else f"frame {begin} lies"
    return [f"{which} {where} annotated frame, without labels: --direction both carries them there, too."]

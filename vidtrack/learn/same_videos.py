"""A run goes on with the videos that it began with, or not at all: its draws are indices of videos."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pretrain.errors import InputError
from vidtrack.files import write_json
from vidtrack.learn.training_set import TrainingSet

RECORD = "videos.json"
_ALIKE = 3  # gray levels by which two versions of a decoder may differ


def require_listed(out: Path, listed: Sequence[str], finished: bool) -> None:
    """Compare names alone, before any video is opened.

    Args:
        out: folder of a run that has a checkpoint.
        listed: names of all videos that `--data` holds now.
        finished: nothing is left to learn, so that nobody will open the videos, and new ones count, too;
            else they may turn out to be unusable, which `require_same` sees.

    Raises:
        InputError: a video that the run learned from is missing, or there are others.
    """
    before = _read(out)
    if before is None:
        return
    missing = sorted({name for name, *_ in before["learned"]} - set(listed))
    if missing:
        raise _others(out, f"{missing[0]} is missing", missing)
    new = sorted(set(listed) - set(before["listed"]))
    if new and finished:
        raise _others(out, f"{new[0]} is new", new)


def require_same(out: Path, listed: Sequence[str], footage: TrainingSet, resumed: bool) -> None:
    """Compare the decoded videos, and keep on record what there is.

    Args:
        out: folder of the run.
        listed: see `require_listed`.
        footage: what is to be learned from.
        resumed: the run has learned from some before.

    Raises:
        InputError: these were others.
    """
    learned = [[name, *video.shape] for name, video in zip(footage.names, footage.videos, strict=True)]
    looks = [_look(video) for video in footage.videos]
    before = _read(out) if resumed else None
    if before is not None and before["learned"] != learned:
        then, now = ({name for name, *_ in videos} for videos in (before["learned"], learned))
        if then - now:
            raise _others(out, f"{min(then - now)} can't be used any more", then - now)
        if now - then:
            raise _others(out, f"{min(now - then)} is new", now - then)
        changed = [one for one in learned if one not in before["learned"]] or learned
        raise _others(out, f"{changed[0][0]} has other frames", {name for name, *_ in changed})
    if before is not None and len(before.get("looks", ())) == len(looks):  # older runs have none
        pairs = zip(footage.names, looks, before["looks"], strict=True)
        other = {name for name, now, then in pairs if np.abs(np.subtract(now, then)).max() > _ALIKE}
        if other:
            raise _others(out, f"{min(other)} shows something else", other)
    write_json(out / RECORD, {"listed": list(listed), "learned": learned, "looks": looks})


def _look(video: np.ndarray) -> list[int]:
    """Mean brightness of 4x4 parts of the frame in the middle of a video `[T, H, W, 3]`, 0..255."""
    gray = cv2.cvtColor(np.asarray(video[len(video) // 2]), cv2.COLOR_RGB2GRAY)
    return [int(value) for value in cv2.resize(gray, (4, 4), interpolation=cv2.INTER_AREA).ravel()]


def _others(out: Path, what: str, names: Collection[str]) -> InputError:
    more = f", and {len(names) - 1} more" if len(names) > 1 else ""
    return InputError(
        f"{out} was begun with other videos than --data holds now ({what}{more}): restore them, choose "
        "another --out, or add --overwrite to begin anew."
    )


def _read(out: Path) -> dict[str, Any] | None:
    """The record of a run; None if it has none of this format."""
    try:
        found = json.loads((out / RECORD).read_text(encoding="utf-8"))
        return found if {"listed", "learned"} <= found.keys() else None
    except (OSError, ValueError, AttributeError):
        return None

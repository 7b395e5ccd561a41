"""What decides a result, as hashes: which parts of an earlier run are still right."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from vidtrack.benchmark.environment import versions
from vidtrack.given import Direction
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.passes import Span
from vidtrack.tolerance import OnError
from vidtrack.tracker import Tracker

Manifest = dict[str, Any]
SHOWN = 5  # frames that a sentence names
SCHEMA = 2


def make_manifest(
    video: str | None,
    tracker: Tracker,
    labels: Mapping[int, Any],
    direction: Direction,
    start: int,
    end: int | None,
    soft: bool,
    on_error: OnError = "repeat",
) -> Manifest:
    """Everything that decides the labels of each frame, as JSON values.

    Args:
        video: hash of the video, None for a live source, of which nothing is ever used again.
        tracker: see `vidtrack.load`.
        labels: the annotations.
        direction, start, end: see `Passes`.
        soft: soft maps are kept.
        on_error: what is done about damaged frames.
    """
    options = tracker.describe()
    if tracker.weights is not None:
        del options["tracker"]  # the weights count, not by which path they were named
    return {
        "schema": SCHEMA,
        "video": video,
        "kind": type(next(iter(labels.values()))).__name__,
        "direction": direction,
        "start": start,
        "end": end,
        "soft": soft,
        "on_error": on_error,
        "options": options,
        "versions": versions(),
        # Channels are summed together, so that one more can change the last bit of the others.
        "channels": channels(labels),
        "annotations": {str(number): labels_hash(value) for number, value in labels.items()},
    }


def forgotten(name: str, before: Manifest, now: Manifest) -> list[str]:
    """A sentence where a result of another video is replaced, or one without all of its annotations.

    Args:
        name: of the folder of results.
        before, now: of the result, and of what replaces it.
    """
    if before.get("video") != now["video"]:
        return [f"{name} holds the result of another video, or of this one as it was, which is replaced."]
    if before.get("kind") != now["kind"]:
        return []
    known = before.get("annotations")
    gone = {*known} - {*now["annotations"]} if isinstance(known, dict) else set()
    frames = sorted(int(number) for number in gone if number.isdecimal())
    if not frames:
        return []
    listed = ", ".join(map(str, frames[:SHOWN])) + (" and more" if len(frames) > SHOWN else "")
    return [
        f"{name} was also annotated at frame{'s' * (len(frames) > 1)} {listed}, which this call leaves out: "
        "give these labels, too, to keep what follows from them."
    ]


def channels(labels: Mapping[int, Any]) -> list[Any]:
    """What is carried, over all annotations: ids, names of keypoints and instances, or a number of values."""
    first = next(iter(labels.values()))
    if isinstance(first, Keypoints):
        return [list(first.names), list(first.instances)]
    if isinstance(first, Maps):
        return [first.values.shape[-1]]
    return sorted({number for value in labels.values() for number in ids_of(value)})


def ids_of(labels: Masks | Boxes) -> list[int]:
    """The ids of the objects that an annotation has."""
    return labels.objects if isinstance(labels, Masks) else list(labels.ids)


def labels_hash(labels: Any) -> str:
    """SHA-256 of labels: of all that a result can depend on."""
    arrays: list[np.ndarray]
    words: list[Any]
    if isinstance(labels, Masks):
        arrays = [labels.ids] if labels.void is None else [labels.ids, labels.void]
        words = [sorted(labels.names.items()), sorted(labels.colors.items())]
    elif isinstance(labels, Keypoints):
        arrays, words = [labels.xy, labels.visible, labels.confidence], [labels.names, labels.instances]
        words.append(labels.skeleton)
    elif isinstance(labels, Boxes):
        arrays, words = [labels.xyxy, labels.confidence], [labels.ids]
    elif isinstance(labels, Maps):
        arrays, words = [labels.values], []
    else:
        raise ValueError(f"no labels: {type(labels).__name__}")
    digest = hashlib.sha256(repr((type(labels).__name__, words)).encode())
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def spans(annotated: list[int], start: int) -> list[Span]:
    """The stretches between annotated frames, in order; ones without any frame are left out."""
    edges: list[int | None] = [None, *annotated, None]
    found: list[Span] = []
    for behind, ahead in pairwise(edges):
        begin = start if behind is None else behind + 1
        if ahead is None or begin < ahead:
            found.append((behind, ahead))
    return found


def same_setting(old: Manifest, new: Manifest) -> bool:
    """Whether two runs differ at most in their annotations, and in what is done about damaged frames."""
    if new.get("video") is None:
        return False
    apart = {"annotations": None, "on_error": None}
    return {**old, **apart} == {**new, **apart}


def reusable(old: Manifest, new: Manifest, done: Container[int], count: int | None) -> set[Span]:
    """The spans of a run that an earlier one has computed already, exactly as this one would.

    A frame depends on the annotations before and after it and on nothing else, see `Memory`; damaged frames
    are not looked at here.

    Args:
        old, new: manifests of the two runs.
        done: numbers of the frames that the earlier run finished.
        count: number after the last frame, if that run came to the end; else None.
    """
    if not same_setting(old, new):
        return set()
    before, after = old["annotations"], new["annotations"]
    unchanged = set(spans(sorted(map(int, before)), new["start"]))
    found = set()
    for span in spans(sorted(map(int, after)), new["start"]):
        behind, ahead = span
        same = all(before.get(str(n)) == after[str(n)] for n in span if n is not None)
        stop = count if ahead is None else ahead
        if span not in unchanged or not same or stop is None:
            continue
        begin = new["start"] if behind is None else behind + 1
        if all(number in done for number in range(begin, stop)):
            found.add(span)
    return found


def span_of(index: int, annotated: list[int]) -> Span:
    """The span that a frame lies in, which is not annotated itself."""
    return (
        max((n for n in annotated if n < index), default=None),
        min((n for n in annotated if n > index), default=None),
    )

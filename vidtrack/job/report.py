"""What is told of a finished run: in `report.json`, in warnings, and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidtrack.given import Direction
from vidtrack.job.manifest import ids_of
from vidtrack.job.records import Record
from vidtrack.labels import Boxes, Keypoints, Maps, Masks

ALARMS = 5  # lines of the terminal for these; the others are in the report
LISTED = 8  # frame numbers in a line of the terminal


def describe_labels(labels: Mapping[int, Any]) -> dict[str, Any]:
    """What is carried, for `report.json`."""
    first = next(iter(labels.values()))
    if isinstance(first, Keypoints):
        return {"keypoints": list(first.names), "instances": list(first.instances)}
    if isinstance(first, Maps):
        return {"channels": first.values.shape[-1]}
    objects: dict[str, Any] = {}
    for value in labels.values():
        names = value.names if isinstance(value, Masks) else {}
        colors = value.colors if isinstance(value, Masks) else {}
        for number in ids_of(value):
            known = objects.setdefault(str(number), {"name": None, "color": None})
            known["name"] = known["name"] or names.get(number)
            known["color"] = known["color"] or (list(colors[number]) if number in colors else None)
    return {"objects": dict(sorted(objects.items(), key=lambda item: int(item[0])))}


def what(labels: Mapping[int, Any]) -> str:
    """What is carried, in words: "masks of 2 objects"."""
    first = next(iter(labels.values()))
    if isinstance(first, Keypoints):
        return f"{_count(len(first.names), 'keypoint')} of {_count(len(first.instances), 'instance')}"
    if isinstance(first, Maps):
        return f"a map of {_count(first.values.shape[-1], 'channel')}"
    objects = {number for value in labels.values() for number in ids_of(value)}
    return f"{'boxes' if isinstance(first, Boxes) else 'masks'} of {_count(len(objects), 'object')}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _listed(numbers: Sequence[object]) -> str:
    """The first few of some numbers, in words."""
    more = len(numbers) - LISTED
    return ", ".join(map(str, numbers[:LISTED])) + (f" and {more} more" if more > 0 else "")


def lost_sentences(frames: list[Record], labels: Mapping[int, Any], direction: Direction) -> list[str]:
    """A sentence for each object that was annotated and is not seen at the end.

    An object is not missed where an annotation says that it is gone, nor where no annotation reaches.

    Args:
        frames: records of all frames, in order.
        labels: the annotations.
        direction: backward, nothing is carried beyond the last annotation.
    """
    first = next(iter(labels.values()))
    frames = [frame for frame in frames if not frame["skipped"]]
    if isinstance(first, Maps) or not frames:
        return []
    named = "instance" if isinstance(first, Keypoints) else "object"
    last = max(labels) if direction == "backward" else frames[-1]["index"]
    seen: dict[str, int] = {}
    for frame in frames:
        for key, about in frame["objects"].items():
            if about["confidence"] > 0:
                seen[key] = frame["index"]
    sentences = []
    for key, index in seen.items():
        told = any(n > index and key not in annotated_keys(value) for n, value in labels.items())
        if index < last and not told:
            sentences.append(
                f"{named} {key} is not seen from frame {index + 1} on: it left, is hidden, is too small, or "
                "was lost."
            )
    return sentences


def annotated_keys(labels: Any) -> frozenset[str]:
    """The objects that an annotation has, as reports call them; a map is one, called 0."""
    if isinstance(labels, Keypoints):
        return frozenset(n for n, there in zip(labels.instances, labels.labelled, strict=True) if there.any())
    if isinstance(labels, Boxes):
        return frozenset(str(n) for n, there in zip(labels.ids, labels.labelled, strict=True) if there)
    if isinstance(labels, Maps):
        return frozenset({"0"})
    return frozenset(str(number) for number in labels.objects)


def summary(report: Mapping[str, Any]) -> list[str]:
    """A finished run in a few lines."""
    seconds = report["seconds"]
    stages = [(name, value) for name, value in seconds.items() if name != "total" and value >= 0.05]
    peak = report["peak_memory_mb"]
    lines = [
        f"{report['frame_count']} frames, {report['computed_frames']} of them computed, in "
        f"{seconds['total']:.1f} s: {report['frames_per_second']:.1f} frames/s"
        + ("" if peak is None else f", at most {peak / 1000:.1f} GB of memory"),
    ]
    if stages:
        lines.append("seconds: " + ", ".join(f"{n.replace('_', ' ')} {v:.1f}" for n, v in stages))
    if "live" in report:
        live = report["live"]
        lines.append(
            f"latency: {live['mean_latency_ms']:.0f} ms on average, {live['max_latency_ms']:.0f} ms at most; "
            f"{live['dropped_frames']} frames dropped"
        )
    if damaged := report["damage"]["damaged_frames"]:
        fate = "without labels" if report["damage"]["skipped_frames"] else "showing what came before"
        lines.append(f"damaged: {_count(len(damaged), 'frame')} {fate}: {_listed(damaged)}")
    if doubtful := report["damage"]["doubtful_frames"]:
        spans = [f"{first}-{last}" if last > first else str(first) for first, last in doubtful]
        count = sum(last - first + 1 for first, last in doubtful)
        lines.append(
            f"doubtful: {_count(count, 'frame')} decoded from damaged ones, perhaps: {_listed(spans)}"
        )
    found, wanted = report["alarms"], report["annotate_next"]
    lines += [f"alarm: {alarm['sentence']}" for alarm in found[:ALARMS]]
    if len(found) > ALARMS:
        lines.append(f"and {_count(len(found) - ALARMS, 'more alarm')}, see report.json")
    if wanted:
        lines.append("annotate next: frame " + ", then ".join(_frame(one) for one in wanted))
    return lines


def _frame(one: Mapping[str, Any]) -> str:
    """A frame by its number, and by its picture's name where that is another number."""
    number, name = one["frame"], str(one["name"])
    return str(number) if name.isdecimal() and int(name) == number else f"{number} ({name})"

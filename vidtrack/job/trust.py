"""Alarms and the frames to annotate next, of a finished run: for `report.json` and as `report.png`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidtrack.given import Direction
from vidtrack.job.records import Record
from vidtrack.job.report import annotated_keys
from vidtrack.labels import Keypoints, Maps, Masks
from vidtrack.reports.trust import draw_trust
from vidtrack.trust import Alarm, Proposal, alarms, proposals

PICTURE = "report.png"


class Trust:
    """What the confidences of a run say.

    Args:
        frames: records of all frames, in order.
        labels: the annotations by frame number.
        direction: of the run.

    Attributes:
        series: confidence of each object by frame, see `vidtrack.trust`.
        alarms, proposals: see there; positions count from the first frame.
    """

    def __init__(self, frames: Sequence[Record], labels: Mapping[int, Any], direction: Direction) -> None:
        self._frames, self._labels = frames, labels
        self._first: int = frames[0]["index"] if frames else 0
        self.annotated = [number - self._first for number in labels]
        self.series = confidence_series(frames, labels, direction)
        self.alarms: list[Alarm] = alarms(self.series, self.annotated)
        self.proposals: list[Proposal] = proposals(self.series, self.annotated)

    def describe(self) -> dict[str, Any]:
        """The part of `report.json`: `alarms` and `annotate_next`."""
        kind = type(next(iter(self._labels.values())))
        what = "instance" if kind is Keypoints else "map" if kind is Maps else "object"
        return {
            "alarms": [
                {
                    "object": alarm.object,
                    "first": alarm.frame + self._first,
                    "last": alarm.last + self._first,
                    "lowest": round(alarm.lowest, 4),
                    "sentence": alarm.sentence(what, self._first),
                }
                for alarm in self.alarms
            ],
            "annotate_next": [
                {
                    "frame": proposal.frame + self._first,
                    "name": self._frames[proposal.frame]["name"],
                    "gain": round(proposal.gain, 4),
                }
                for proposal in self.proposals
            ],
        }

    def draw(self, folder: Path) -> list[str]:
        """Write `report.png`; returns the names of what was written, none if there is no confidence."""
        if not self.series:
            return []
        names, colors = _looks(self._labels)
        picture = draw_trust(
            self.series,
            self.annotated,
            [(alarm.object, alarm.frame, alarm.last) for alarm in self.alarms],
            [proposal.frame for proposal in self.proposals],
            first=self._first,
            names=names,
            colors=colors,
        )
        Image.fromarray(picture).save(folder / PICTURE)
        return [PICTURE]


def confidence_series(
    frames: Sequence[Record], labels: Mapping[int, Any], direction: Direction
) -> dict[str, NDArray[np.float64]]:
    """The confidences of a run as `vidtrack.trust` takes them, by object.

    In a frame without labels nothing is expected. Elsewhere an object is expected if an annotation that the
    frame is carried from has it: there it is 0 where it is not seen, else nan.

    Args:
        frames: records of all frames, in order.
        labels: the annotations by frame number, ascending.
        direction: of the run.
    """
    numbers = list(labels)
    known = {number: annotated_keys(value) for number, value in labels.items()}
    series: dict[str, NDArray[np.float64]] = {}
    for t, frame in enumerate(frames):
        if frame["skipped"]:
            continue
        behind = bisect_right(numbers, frame["index"]) - 1
        ahead = bisect_left(numbers, frame["index"])
        sources = [behind] * (direction != "backward") + [ahead] * (direction != "forward")
        told = [known[numbers[n]] for n in sources if 0 <= n < len(numbers)]
        values = dict.fromkeys(sorted(frozenset[str]().union(*told)), 0.0)
        values |= {key: float(about["confidence"]) for key, about in frame["objects"].items()}
        for key, value in values.items():
            series.setdefault(key, np.full(len(frames), np.nan))[t] = value
    return dict(sorted(series.items(), key=lambda item: (len(item[0]), item[0])))  # 2 before 10


def _looks(labels: Mapping[int, Any]) -> tuple[dict[str, str], dict[str, tuple[int, int, int]]]:
    """Names and colours of the objects of masks."""
    names: dict[str, str] = {}
    colors: dict[str, tuple[int, int, int]] = {}
    for value in labels.values():
        if isinstance(value, Masks):
            names |= {str(number): name for number, name in value.names.items()}
            colors |= {str(number): color for number, color in value.colors.items()}
    return names, colors

"""Boxes: one CSV of MOTChallenge of the whole video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidtrack.job.outputs.base import About, Output, rounded, shortest
from vidtrack.job.records import Record
from vidtrack.labels.boxes import Boxes
from vidtrack.labels.boxfiles import write_mot
from vidtrack.reports.boxes import draw_boxes
from vidtrack.session import Result


class BoxOutput(Output[Boxes]):
    """`boxes.csv`."""

    def objects(self, labels: Boxes, confidence: Mapping[Any, float]) -> dict[str, Any]:
        """Edges in pixels and confidence of each box that is there."""
        return {
            str(number): {
                "box": [shortest(v) for v in labels.xyxy[labels.ids.index(number)]],
                "confidence": rounded(value),
            }
            for number, value in confidence.items()
        }

    def draw(self, image: np.ndarray, labels: Boxes) -> np.ndarray:
        """See `draw_boxes`."""
        return draw_boxes(image, labels)

    def put(self, result: Result, labels: Boxes, source: Path | None) -> Any:
        """Id, edges (None where lost) and confidence of each object."""
        return [
            [number, *(None if np.isnan(v) else shortest(v) for v in edges), shortest(sure)]
            for number, edges, sure in zip(labels.ids, labels.xyxy, labels.confidence, strict=True)
        ]

    @classmethod
    def there(cls, about: About, record: Record, folder: Path) -> bool:
        """All is in the record."""
        return isinstance(record.get("labels"), list)

    @classmethod
    def restore(
        cls, about: About, record: Record, folder: Path, like: Boxes | None
    ) -> tuple[Boxes, dict[Any, float]]:
        """From the record."""
        return _labels(record), {int(n): entry["confidence"] for n, entry in record["objects"].items()}

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        """Write the CSV."""

        def frames() -> Iterator[tuple[int, str, Boxes]]:
            for record in records():
                yield record["index"], record["name"], _labels(record)

        write_mot(self.folder / "boxes.csv", frames(), overwrite=True)

    def files(self) -> list[str]:
        """See `Output.files`."""
        return ["boxes.csv"]


def _labels(record: Record) -> Boxes:
    values = np.array([row[1:] for row in record["labels"]], np.float32).reshape(-1, 5)  # None becomes nan
    ids = tuple(row[0] for row in record["labels"])
    return Boxes(ids, np.ascontiguousarray(values[:, :4]), np.ascontiguousarray(values[:, 4]))

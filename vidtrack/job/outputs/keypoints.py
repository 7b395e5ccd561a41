"""Keypoints: one CSV, COCO JSON and DeepLabCut's table of the whole video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pretrain.errors import InputError
from vidtrack.job.outputs.base import About, Output, rounded, shortest
from vidtrack.job.records import Record
from vidtrack.labels.cocokeypoints import write_coco
from vidtrack.labels.deeplabcut import write_deeplabcut
from vidtrack.labels.keypointfiles import write_csv
from vidtrack.labels.keypoints import Keypoints
from vidtrack.reports.keypoints import draw_keypoints
from vidtrack.session import Result


class KeypointOutput(Output[Keypoints]):
    """`keypoints.csv`, `keypoints.json` (COCO) and `deeplabcut.csv`; `--save h5`: `deeplabcut.h5`."""

    saves: ClassVar[frozenset[str]] = frozenset({"h5"})

    @classmethod
    def check(cls, saves: frozenset[str]) -> None:
        """H5 needs two more libraries; better to know at the beginning."""
        if "h5" in saves and not (find_spec("pandas") and find_spec("tables")):
            raise InputError(
                "--save h5 needs pandas and PyTables: pip install 'vidtrack[deeplabcut]', or leave it out."
            )

    def complete(self, labels: Keypoints) -> Keypoints:
        """Frames that no annotation reaches have the same keypoints, without a place."""
        first: Keypoints = self.about.first
        if (labels.names, labels.instances) == (first.names, first.instances):
            return labels
        shape = first.xy.shape[:2]
        return replace(
            first,
            xy=np.full_like(first.xy, np.nan),
            visible=np.zeros(shape, np.bool_),
            confidence=np.zeros(shape, np.float32),
        )

    def objects(self, labels: Keypoints, confidence: Mapping[Any, float]) -> dict[str, Any]:
        """Number of visible points and mean confidence of each instance."""
        seen = dict(zip(labels.instances, labels.visible.sum(axis=1), strict=True))
        return {
            name: {"visible": int(seen[name]), "confidence": rounded(value)}
            for name, value in confidence.items()
        }

    def draw(self, image: np.ndarray, labels: Keypoints) -> np.ndarray:
        """See `draw_keypoints`."""
        return draw_keypoints(image, labels)

    def put(self, result: Result, labels: Keypoints, source: Path | None) -> Any:
        """x, y, visible and confidence of each point, None for nan."""
        flat = zip(labels.xy.reshape(-1, 2), labels.visible.ravel(), labels.confidence.ravel(), strict=True)
        return [
            [*(None if np.isnan(v) else shortest(v) for v in place), int(seen), shortest(sure)]
            for place, seen, sure in flat
        ]

    @classmethod
    def there(cls, about: About, record: Record, folder: Path) -> bool:
        """All is in the record."""
        return len(record.get("labels") or ()) == about.first.visible.size

    @classmethod
    def restore(
        cls, about: About, record: Record, folder: Path, like: Keypoints | None
    ) -> tuple[Keypoints, dict[Any, float]]:
        """From the record."""
        confidence = {name: entry["confidence"] for name, entry in record["objects"].items()}
        return _labels(record, like or about.first), confidence

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        """Write the tables."""

        def frames() -> Iterator[tuple[int, str, Keypoints]]:
            for record in records():
                points = _labels(record, self.about.first)
                if record["index"] not in self.about.labels:
                    lost = points.confidence[..., None] <= 0  # the last place of a point is none of it now
                    points = replace(points, xy=np.where(lost, np.float32(np.nan), points.xy))
                yield record["index"], record["name"], points

        write_csv(self.folder / "keypoints.csv", frames(), overwrite=True)
        write_coco(self.folder / "keypoints.json", frames(), self.about.size, overwrite=True)
        write_deeplabcut(self.folder / "deeplabcut.csv", frames(), overwrite=True)
        if "h5" in self.about.saves:
            write_deeplabcut(self.folder / "deeplabcut.h5", frames(), overwrite=True)

    def files(self) -> list[str]:
        """See `Output.files`."""
        more = ["deeplabcut.h5"] if "h5" in self.about.saves else []
        return ["keypoints.csv", "keypoints.json", "deeplabcut.csv", *more]


def _labels(record: Record, like: Keypoints) -> Keypoints:
    shape = like.xy.shape[:2]
    values = np.array(record["labels"], np.float32).reshape(*shape, 4)  # None becomes nan
    return replace(
        like,
        xy=np.ascontiguousarray(values[..., :2]),
        visible=values[..., 2] > 0,
        confidence=np.ascontiguousarray(values[..., 3]),
    )

"""DAVIS as a task: the objects of the first frame are given, all frames but the first and last are scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidtrack.benchmark.davis import DavisSequence, DavisSet
from vidtrack.benchmark.mask_items import Ids, MaskItem, MaskTask
from vidtrack.benchmark.scores import KEYS, ObjectScores, score_sequence, summarize
from vidtrack.benchmark.task import Record, Run


def davis_task(davis: DavisSet) -> MaskTask:
    """The semi-supervised benchmark of DAVIS-2016 or 2017, as the official tool scores it.

    Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016;
    Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", 2017 (arXiv 1704.00675).

    The scores are the official seven, means over the objects of all sequences. `detail` of a sequence has
    the lists `J` and `F` of each object, None where not scored; `series` their mean per frame.
    """
    return MaskTask(
        benchmark="davis",
        title=f"DAVIS-{davis.year} {davis.split}",
        keys=KEYS,
        data=davis.root,
        protocol={
            "name": f"davis-{davis.year}",
            "split": davis.split,
            "resolution": davis.resolution,
            "given": "the annotation of the first frame",
            "scored": "all frames but the first and the last",
            "objects": "any value but 0 is one object" if davis.year == 2016 else "ids; 255 is void",
            "mean": "over the objects of all sequences",
        },
        items=tuple(DavisItem.of(sequence) for sequence in davis.sequences),
        total=_total,
        lower=tuple(key for key in KEYS if key.endswith("Decay")),
    )


@dataclass(eq=False)
class DavisItem(MaskItem):
    """A sequence of DAVIS; `objects` are those of its first frame."""

    year: int

    @classmethod
    def of(cls, sequence: DavisSequence) -> DavisItem:
        """The same sequence as an item."""
        return cls(
            name=sequence.name,
            frames=len(sequence.frames),
            files=sequence.frames,
            annotations=dict(enumerate(sequence.annotations)),
            size=sequence.size,
            objects=sequence.objects,
            void=sequence.void,
            binary=sequence.year == 2016,
            year=sequence.year,
        )

    def about(self) -> dict[str, Any]:
        """The year, which decides what the values of annotations mean."""
        return {"year": self.year}

    def runs(self) -> Sequence[Run]:
        """One forward pass from the first frame."""
        return [Run(name="", annotations={0: self.masks(0, self.objects)})]

    def scored(self) -> Sequence[int]:
        """All frames but the first and the last."""
        return range(1, self.frames - 1)

    def score(self, folder: Path) -> Record:
        """J and F of each object; the masks of the first and the last frame may be missing."""
        annotations = (self.annotation(index) for index in range(self.frames))
        scores = score_sequence(annotations, self._results(folder), self.objects, self.void)
        return {"scores": summarize(scores.values()), **details(scores)}

    def _results(self, folder: Path) -> Iterator[Ids]:
        scored = self.scored()
        for index in range(self.frames):
            yield self.result(folder, index) if index in scored else np.zeros(self.size, np.uint8)


def details(scores: dict[int, ObjectScores]) -> Record:
    """`detail` and `series` of a record."""
    return {
        "detail": {str(id_): {"J": list(value.J), "F": list(value.F)} for id_, value in scores.items()},
        "series": {str(id_): value.series() for id_, value in scores.items()},
    }


def objects_of(records: Iterable[dict[str, Any]]) -> list[ObjectScores]:
    """The scores of all objects of all sequences, from their `detail`."""
    return [ObjectScores.from_json(value) for detail in records for value in detail.values()]


def _total(records: Sequence[Any]) -> dict[str, float | None]:
    return {**summarize(objects_of(records))}

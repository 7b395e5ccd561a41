"""A task and trackers small enough to be seen through, for the tests of the runner."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from vidtrack.benchmark.predictions import folder_of
from vidtrack.benchmark.task import Record, Run
from vidtrack.labels.masks import Masks

SIZE = 24, 32  # height, width
FRAMES = 6


def draw(index: int) -> np.ndarray:
    """Ids of a frame: a square of 6 pixels that moves to the right."""
    ids = np.zeros(SIZE, np.uint8)
    ids[1:7, 2 * index : 2 * index + 6] = 1
    return ids


def read_mask(folder: Path, stem: str) -> np.ndarray:
    with Image.open(folder / f"{stem}.png") as image:
        return np.asarray(image)


@dataclass
class ToyItem:
    """Scores the share of frames that are right; `passes` runs of it begin at frames 0, 1..."""

    name: str
    folder: Path
    passes: int = 1
    print: str = "data"
    frames: int = FRAMES

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.print} {self.name}".encode()).hexdigest()

    @contextmanager
    def video(self) -> Iterator[Path]:
        yield self.folder

    def runs(self) -> Sequence[Run]:
        names = [""] if self.passes == 1 else [f"from {n}" for n in range(self.passes)]
        return [
            Run(name, {start: Masks(draw(start), None)}, start, soft=self.passes > 1)
            for start, name in enumerate(names)
        ]

    def score(self, folder: Path) -> Record:
        rights: list[float | None] = [
            float(np.mean([(read_mask(folder_of(folder, run), f"{n:05d}") == draw(n)).all() for run in live]))
            if (live := [run for run in self.runs() if run.start <= n])
            else None
            for n in range(self.frames)
        ]
        share = float(np.mean([right for right in rights if right is not None]))
        return {"scores": {"right": share}, "detail": None, "series": {"1": rights}}

    def frame(self, index: int) -> np.ndarray:
        return np.zeros((*SIZE, 3), np.uint8)

    def truth(self, index: int) -> Masks:
        return Masks(draw(index), None)

    def predicted(self, folder: Path, index: int) -> Masks:
        return Masks(read_mask(folder, f"{index:05d}"), None)


@dataclass
class ToyTask:
    data: Path
    items: Sequence[ToyItem]
    benchmark: str = "toy"
    title: str = "Toys"
    keys: tuple[str, ...] = ("right",)
    lower: tuple[str, ...] = ()
    protocol: dict[str, Any] = field(default_factory=lambda: {"rule": 1})

    def summarize(self, records: Mapping[str, Record]) -> dict[str, float | None]:
        return {"right": float(np.mean([record["scores"]["right"] for record in records.values()]))}


class Fake:
    """Knows the truth; `wrong`: copies the first mask; `stop`: the sequence it breaks off at."""

    def __init__(self, *, wrong: bool = False, stop: str | None = None, weights: str = "abc") -> None:
        self.wrong, self.stop, self.weights = wrong, stop, weights
        self.calls: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {"tracker": "fake", "weights": self.weights, "size": (1, 2), "wrong": self.wrong}

    def changed(self, **settings: Any) -> Fake:
        return Fake(weights=str(settings))

    @contextmanager
    def passes(
        self, source: Path, annotations: Any, direction: Any, start: int, end: Any, **options: Any
    ) -> Iterator[Any]:
        self.calls.append(source.name)
        yield self.results(source, annotations, start, options.get("soft", False))

    def results(self, source: Path, annotations: Any, start: int, soft: bool) -> Iterator[Any]:
        for index in range(start, FRAMES):
            if source.name == self.stop and index == 3:
                raise KeyboardInterrupt
            ids = annotations[start].ids if self.wrong else draw(index)
            maps = (
                {"labels": np.zeros((3, 4, 2), np.float32), "objects": [1], "working": (24, 32), "stride": 8}
                if soft
                else None
            )
            yield SimpleNamespace(index=index, name=f"{index:05d}", labels=Masks(ids, None), soft=maps)


def make_task(root: Path, names: Sequence[str] = ("two", "one"), **changes: Any) -> ToyTask:
    return ToyTask(root, [ToyItem(name, root / name, **changes) for name in names])

"""Maps: one array per frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pretrain.errors import InputError
from vidtrack.job.outputs.base import About, Output, rounded
from vidtrack.job.records import Record
from vidtrack.labels.maps import Maps
from vidtrack.reports.maps import MapColours
from vidtrack.session import Result


class MapOutput(Output[Maps]):
    """`maps/<name>.npy`, float32 `[H, W, K]`, nan where a pixel has no value."""

    kept: ClassVar[tuple[str, ...]] = ("maps",)

    def __init__(self, folder: Path, about: About) -> None:
        super().__init__(folder, about)
        self._colours = MapColours(about.labels.values())
        (folder / "maps").mkdir(exist_ok=True)

    def complete(self, labels: Maps) -> Maps:
        """Frames that no annotation reaches have as many channels as the others."""
        channels = self.about.first.values.shape[-1]
        if labels.values.shape[-1] == channels:
            return labels
        return Maps(np.full((*labels.size, channels), np.nan, np.float32), labels.confidence)

    def objects(self, labels: Maps, confidence: Mapping[Any, float]) -> dict[str, Any]:
        """The share of pixels that have values, and the confidence of the frame, under 0."""
        known = float(labels.labelled.mean())
        return {str(n): {"known": round(known, 6), "confidence": rounded(v)} for n, v in confidence.items()}

    def draw(self, image: np.ndarray, labels: Maps) -> np.ndarray:
        """See `MapColours`."""
        return self._colours.draw(image, labels)

    def put(self, result: Result, labels: Maps, source: Path | None) -> None:
        """Write the frame's array."""
        if source != self.folder:
            labels.save(self.folder / "maps" / f"{result.name}.npy", overwrite=True)

    @classmethod
    def there(cls, about: About, record: Record, folder: Path) -> bool:
        """The frame's array."""
        return (folder / "maps" / f"{record['name']}.npy").is_file()

    @classmethod
    def restore(
        cls, about: About, record: Record, folder: Path, like: Maps | None
    ) -> tuple[Maps, dict[Any, float]]:
        """From the array; the confidence of each pixel is in no file."""
        path = folder / "maps" / f"{record['name']}.npy"
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} can't be read any more: remove {folder} and run again.") from error
        if values.shape != (*about.size, about.first.values.shape[-1]) or values.dtype != np.float32:
            raise InputError(f"{path} was changed: remove {folder} and run again.")
        return Maps(values), {int(n): entry["confidence"] for n, entry in record["objects"].items()}

    def files(self) -> list[str]:
        """See `Output.files`."""
        return ["maps/"]

"""Masks: palette PNGs always; run lengths, soft maps and cut-out objects if asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pretrain.errors import InputError
from vidtrack.job.outputs.base import About, Output, rounded
from vidtrack.job.records import Record
from vidtrack.labels.masks import Masks
from vidtrack.labels.palette import VOID
from vidtrack.labels.rlejson import RleJsonWriter
from vidtrack.labels.softmaps import save_soft
from vidtrack.reports.cutout import cut_out
from vidtrack.reports.overlay import draw_masks
from vidtrack.session import Result
from vidtrack.video import CutoutWriter


class MaskOutput(Output[Masks]):
    """`masks/<name>.png`.

    `--save rle`: `masks.json` (COCO). `--save npz`: `soft/<name>.npz`. `--save cutout`: `cutout.webm`;
    `--save cutout-png`: `cutout/<name>.png`.
    """

    saves: ClassVar[frozenset[str]] = frozenset({"rle", "npz", "cutout", "cutout-png"})
    kept: ClassVar[tuple[str, ...]] = ("masks", "soft")

    def __init__(self, folder: Path, about: About) -> None:
        super().__init__(folder, about)
        height, width = about.size
        self._soft = "npz" in about.saves
        (folder / "masks").mkdir(exist_ok=True)
        if self._soft:
            (folder / "soft").mkdir(exist_ok=True)
        self._rle = None
        if "rle" in about.saves:
            self._rle = RleJsonWriter(folder / "masks.json", about.size, overwrite=True)
        names = {"cutout": "cutout.webm", "cutout-png": "cutout"}
        self._cutouts = {
            save: CutoutWriter(folder / name, width, height, about.rate, pixel_aspect=about.pixel_aspect)
            for save, name in names.items()
            if save in about.saves
        }

    def objects(self, labels: Masks, confidence: Mapping[Any, float]) -> dict[str, Any]:
        """Area in pixels and confidence of each object that is seen."""
        areas = np.bincount(labels.ids.ravel(), minlength=256)
        return {
            str(number): {"area": int(areas[number]), "confidence": rounded(value)}
            for number, value in confidence.items()
        }

    def draw(self, image: np.ndarray, labels: Masks) -> np.ndarray:
        """See `draw_masks`."""
        return draw_masks(image, labels)

    def put(self, result: Result, labels: Masks, source: Path | None) -> None:
        """Write the frame's PNG and what else is asked for."""
        if source != self.folder:
            labels.save(self.folder / "masks" / f"{result.name}.png", overwrite=True)
            if self._soft:
                self._put_soft(result, source)
        if self._rle is not None:
            self._rle.write(result.index, result.name, labels, result.confidence)
        for writer in self._cutouts.values():
            writer.write(cut_out(result.image, labels), result.time, result.name)

    def skip(self, result: Result) -> None:
        """A moment in which the film of the cut-out objects shows nothing."""
        if (film := self._cutouts.get("cutout")) is not None:
            film.write(np.zeros((*self.about.size, 4), np.uint8), result.time)

    def _put_soft(self, result: Result, source: Path | None) -> None:
        path = self.folder / "soft" / f"{result.name}.npz"
        if source is not None:
            shutil.copyfile(source / "soft" / path.name, path)
        elif result.soft is not None:
            maps = np.ascontiguousarray(np.moveaxis(result.soft["labels"], -1, 0))  # [K, h, w]
            save_soft(
                path,
                maps,
                result.soft["objects"],
                self.about.size,
                working=result.soft["working"],
                stride=result.soft["stride"],
                overwrite=True,
            )

    @classmethod
    def there(cls, about: About, record: Record, folder: Path) -> bool:
        """The mask and, if asked for, the soft maps."""
        name = record["name"]
        soft = "npz" not in about.saves or (folder / "soft" / f"{name}.npz").is_file()
        return soft and (folder / "masks" / f"{name}.png").is_file()

    @classmethod
    def restore(
        cls, about: About, record: Record, folder: Path, like: Masks | None
    ) -> tuple[Masks, dict[Any, float]]:
        """From the PNG; names and colours are the annotation's."""
        from PIL import Image

        path = folder / "masks" / f"{record['name']}.png"
        try:
            values = np.array(Image.open(path))
        except OSError as error:
            raise InputError(f"{path} can't be read any more: remove {folder} and run again.") from error
        if values.shape != about.size or values.dtype != np.uint8:
            raise InputError(f"{path} was changed: remove {folder} and run again.")
        void = values == VOID
        masks = Masks(np.where(void, np.uint8(0), values), void if void.any() else None)
        if like is not None:
            masks.names, masks.colors = like.names, like.colors
        return masks, {int(n): entry["confidence"] for n, entry in record["objects"].items()}

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        """Close the files of the whole video."""
        if self._rle is not None:
            self._rle.close()
        for writer in self._cutouts.values():
            writer.close()

    def abort(self) -> None:
        """Remove what is not finished."""
        writers: list[RleJsonWriter | CutoutWriter] = [*self._cutouts.values()]
        writers += [self._rle] if self._rle else []
        for writer in writers:
            writer.__exit__(KeyboardInterrupt, None, None)

    def files(self) -> list[str]:
        """See `Output.files`."""
        named = {"rle": "masks.json", "npz": "soft/", "cutout": "cutout.webm", "cutout-png": "cutout/"}
        return ["masks/", *(name for save, name in named.items() if save in self.about.saves)]

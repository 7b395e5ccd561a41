"""Writing the masks of a whole video as one COCO data set of run lengths, frame by frame."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import cv2
import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.masks import Masks
from vidtrack.labels.rle import encode


class RleJsonWriter:
    """Writes masks as COCO JSON that pycocotools loads; no mask and no run lengths are kept in memory.

    Each frame is an image `{id, file_name, frame_index, height, width}`, with `id = frame_index + 1` since
    some tools take 0 for none. Each object of a frame is an annotation `{id, image_id, category_id, track_id,
    segmentation: {size, counts}, area, bbox, iscrowd, score}` where `category_id` and `track_id` (the name of
    TAO and TrackEval) are the object's id, `bbox` is `[x, y, width, height]` of its pixels, and `score` its
    confidence 0..1 (left out where unknown). Each object is a category with its name. Void is left out.

    The file appears under its name when the writer is closed; after an exception nothing remains.

        with RleJsonWriter("masks.json", (480, 854)) as writer:
            writer.write(result.index, result.name, result.labels, result.confidence)

    Args:
        path: of the JSON file.
        size: `(height, width)` of the frames.
        overwrite: replace an existing file.

    Raises:
        InputError: `path` exists, or can't be written.
    """

    def __init__(self, path: Path | str, size: tuple[int, int], *, overwrite: bool = False) -> None:
        self._path, self._size = Path(path), (int(size[0]), int(size[1]))
        self._cleanup = contextlib.ExitStack()
        partial = self._cleanup.enter_context(atomic_file(path, overwrite))
        self._images: list[dict[str, Any]] = []
        self._names: dict[int, str] = {}
        self._annotations = 0
        self._file: TextIO | None = None
        try:
            self._file = partial.open("w", encoding="utf-8")
            self._put('{"info": {"description": "masks of a video, by vidtrack"}, "annotations": [')
        except OSError as error:
            self._abort()
            raise self._failed(error) from error

    def write(self, index: int, name: str, masks: Masks, scores: Mapping[int, float] | None = None) -> None:
        """Append the masks of a frame.

        Args:
            index: number of the frame; those of one file differ.
            name: of the frame's picture, without suffix.
            masks: of the size given.
            scores: confidence 0..1 of objects.

        Raises:
            ValueError: masks of another size, or the writer is closed.
            InputError: the file can't be written on.
        """
        if self._file is None:
            raise ValueError("the writer is closed")
        if masks.size != self._size:
            raise ValueError(f"masks are {list(masks.size)} in a file of {list(self._size)}")
        height, width = self._size
        image = {"id": index + 1, "file_name": f"{name}.png", "frame_index": index}
        self._images.append(image | {"height": height, "width": width})
        try:
            for object_id in masks.objects:
                self._names[object_id] = masks.names.get(object_id) or self._names.get(object_id, "")
                self._annotations += 1
                self._put(",\n" if self._annotations > 1 else "\n")
                self._put(json.dumps(self._annotation(index, masks, object_id, scores or {})))
        except OSError as error:
            self._abort()
            raise self._failed(error) from error

    def _annotation(
        self, index: int, masks: Masks, object_id: int, scores: Mapping[int, float]
    ) -> dict[str, Any]:
        region = masks.ids == object_id
        score = scores.get(object_id)
        return {
            "id": self._annotations,
            "image_id": index + 1,
            "category_id": object_id,
            "track_id": object_id,
            "segmentation": encode(region),
            "area": int(np.count_nonzero(region)),
            "bbox": list(cv2.boundingRect(region.view(np.uint8))),
            "iscrowd": 0,
            **({} if score is None else {"score": round(float(score), 4)}),
        }

    def close(self) -> None:
        """Write what is left and give the file its name. Does nothing the second time.

        Raises:
            InputError: the file can't be written.
        """
        if self._file is None:
            return
        categories = [{"id": i, "name": self._names[i] or f"object {i}"} for i in sorted(self._names)]
        try:
            self._put("\n],\n")
            self._put(f'"categories": {json.dumps(categories, ensure_ascii=False)},\n"images": [\n')
            self._put(",\n".join(json.dumps(image, ensure_ascii=False) for image in self._images))
            self._put("\n]}\n")
            self._file.close()
        except OSError as error:
            self._abort()
            raise self._failed(error) from error
        self._file = None
        self._cleanup.close()

    def _put(self, text: str) -> None:
        assert self._file is not None
        self._file.write(text)

    def _failed(self, error: OSError) -> InputError:
        return InputError(f"{self._path} can't be written ({error.strerror}): choose another output.")

    def _abort(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        self._cleanup.__exit__(_Aborted, _Aborted(), None)  # so atomic_file removes what it has

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._file is not None:
            self._abort()


class _Aborted(Exception):
    pass


def write_rle_json(
    path: Path | str,
    frames: Iterable[tuple[int, str, Masks, Mapping[int, float]]],
    size: tuple[int, int],
    *,
    overwrite: bool = False,
) -> None:
    """Write `(index, name, masks, scores)` of each frame, see `RleJsonWriter`; takes one frame at a time."""
    with RleJsonWriter(path, size, overwrite=overwrite) as writer:
        for index, name, masks, scores in frames:
            writer.write(index, name, masks, scores)

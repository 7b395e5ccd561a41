"""Masks: one integer id per pixel, read from whatever users have and written as palette PNG."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.palette import PALETTE, VOID

MAX_OBJECTS = 254
Key = tuple[str, ...] | tuple[int, int, int]


@dataclass(eq=False)
class Masks:
    """The objects of one frame.

    Attributes:
        ids: uint8 `[H, W]`, 0 background, 1..254 objects.
        void: bool `[H, W]`, True where a pixel carries no label (its id is 0), or None.
        names: id -> name, from formats that name objects (labelme, COCO); may be empty.
        colors: id -> RGB, for objects that came as colours; may be empty.
        warnings: one sentence for each thing about the file that the user should know.
        keys: id -> what the file calls the object, where it has no ids of its own: a colour or a name, which
            is the same object's in all files; see `vidtrack.labels.agree`.
    """

    ids: np.ndarray
    void: np.ndarray | None = None
    names: dict[int, str] = field(default_factory=dict)
    colors: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    keys: dict[int, Key] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes and types here, so that nothing downstream needs to."""
        if not isinstance(self.ids, np.ndarray) or self.ids.ndim != 2 or self.ids.dtype.kind not in "biu":
            shape = list(getattr(self.ids, "shape", ()))
            kind = getattr(self.ids, "dtype", type(self.ids).__name__)
            raise InputError(f"ids must be whole numbers [H, W], not {kind} {shape}.")
        if self.ids.size and not (self.ids.min() >= 0 and self.ids.max() <= MAX_OBJECTS):
            raise InputError(
                f"ids must be 0 (background) to {MAX_OBJECTS}, not {self.ids.min()} to {self.ids.max()}: "
                "divide a mask of 0 and 255 by 255."
            )
        self.ids = self.ids.astype(np.uint8, copy=False)
        if self.void is not None and (self.void.dtype != np.bool_ or self.void.shape != self.ids.shape):
            raise ValueError(f"void must be bool {list(self.ids.shape)}, like ids")

    @property
    def objects(self) -> list[int]:
        """Sorted ids that have at least one pixel."""
        counts = np.bincount(self.ids.ravel(), minlength=256)
        return [int(i) for i in np.flatnonzero(counts[1:]) + 1]

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)`."""
        return self.ids.shape[0], self.ids.shape[1]

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        void: int | None = None,
        size: tuple[int, int] | None = None,
        empty: bool = False,
    ) -> Masks:
        """Read a mask file; the content decides about the format, never the extension.

        Palette PNG, gray 0/255, gray ids (8 or 16 bit), RGB colours, alpha, `.npy` and `.npz` of ids or of
        bool `[objects, H, W]` as Segment Anything gives them (`maskfiles`),
        labelme JSON (`labelme`), COCO JSON (`coco`).

        Args:
            path: the file.
            void: the value of pixels that carry no label, usually 255. Without it, a file whose only values
                are 0 and 255 has one object, and 255 beside other ids is an error.
            size: `(height, width)` of the video frame; a mask of another size and the same aspect ratio is
                resized by nearest neighbour, with a warning.
            empty: whether a mask without any object will do: it says that nothing is there.

        Raises:
            InputError: no such file, not a mask, a JPEG, no object, more than 254 objects, another aspect
                ratio.
        """
        from vidtrack.labels.maskfiles import read_mask

        return read_mask(Path(path), void, size)._checked(str(path), size, empty)

    @classmethod
    def from_coco(
        cls,
        source: dict[str, Any] | list[Any] | Path | str,
        *,
        image: int | None = None,
        frame: int | None = None,
        size: tuple[int, int] | None = None,
        where: str = "the COCO annotation",
    ) -> Masks:
        """Masks from COCO: an image of a data set, an annotation, a run-length mask, or a list of these.

        Args:
            source: the parsed JSON, or the path of a JSON file.
            image: id of the image to take from a data set with several.
            frame: number of the frame to take instead, see `parse_coco`.
            size: `(height, width)` of the video frame, see `load`.
            where: what the user calls parsed JSON, for messages.

        Raises:
            InputError: as `load`.
        """
        from vidtrack.labels.coco import parse_coco
        from vidtrack.labels.maskfiles import read_json

        if isinstance(source, (str, Path)):
            where = str(source)
            source = read_json(Path(source))
        return parse_coco(source, where, image, size, frame)._checked(where, size)

    def to_coco(self) -> list[dict[str, Any]]:
        """One compressed COCO run-length mask per object: `{size, counts, id}`, and `name` where known.

        `counts` is text, ready for JSON. Void is not part of the format and is left out.
        """
        from vidtrack.labels.rle import encode

        return [
            {**encode(self.ids == i), "id": i, **({"name": self.names[i]} if i in self.names else {})}
            for i in self.objects
        ]

    def to_label_map(self) -> np.ndarray:
        """One-hot float32 `[1 + len(objects), H, W]`: background, then `objects`; all zero where void."""
        channels = np.array([0, *self.objects], np.uint8)
        label_map = (self.ids == channels[:, None, None]).astype(np.float32)
        if self.void is not None:
            label_map[:, self.void] = 0
        return label_map

    @classmethod
    def from_label_map(cls, probabilities: np.ndarray, objects: list[int]) -> Masks:
        """The most probable object of each pixel; background wins a tie.

        Args:
            probabilities: float `[1 + len(objects), H, W]`: background, then `objects`.
            objects: the ids of the channels after the first.
        """
        if len(probabilities) != 1 + len(objects):
            raise ValueError(
                f"{len(objects)} objects need {1 + len(objects)} channels, not {len(probabilities)}"
            )
        channels = np.array([0, *objects], np.uint8)
        return cls(channels[np.asarray(probabilities).argmax(axis=0)])

    def save(self, path: Path | str, overwrite: bool = False) -> None:
        """Write a palette PNG whose indices are the ids, atomically; void pixels are index 255.

        An object is shown in its colour, if it has one of its own, other than black and that of void: a
        program that saves the file without its palette leaves the colours, by which objects are known again.

        Raises:
            InputError: `path` exists and `overwrite` is False, or it can't be written.
        """
        from PIL import Image

        values = self.ids if self.void is None else np.where(self.void, np.uint8(VOID), self.ids)
        image = Image.fromarray(values)
        image.putpalette(self._palette().tobytes())  # turns mode L into P and keeps the indices
        with atomic_file(path, overwrite) as partial:
            image.save(partial, "PNG")

    def _palette(self) -> np.ndarray:
        """The palette of DAVIS with the colours of objects: uint8 `[256, 3]`, all different.

        It depends on `colors` alone, not on the objects that are there, and so is the same in all frames.
        """
        usual = [tuple(color) for color in PALETTE.tolist()]
        own: dict[int, tuple[int, ...]] = {}
        for number, color in sorted(self.colors.items()):
            if 0 < number <= MAX_OBJECTS and color not in (usual[0], usual[VOID], *own.values()):
                own[number] = color
        taken = set(own.values())
        spare = iter([usual[number] for number in own if usual[number] not in taken])
        colors = [
            own.get(number) or (next(spare) if color in taken else color)
            for number, color in enumerate(usual)
        ]
        return np.array(colors, np.uint8)

    def resized(self, size: tuple[int, int]) -> Masks:
        """The same masks at `size` (height, width), by nearest neighbour."""
        import cv2

        def nearest(values: np.ndarray) -> np.ndarray:
            # EXACT takes the nearest pixel centre; plain INTER_NEAREST shifts by half a pixel.
            return cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)

        void = None if self.void is None else nearest(self.void.astype(np.uint8)).astype(np.bool_)
        told, keys = list(self.warnings), dict(self.keys)
        return Masks(nearest(self.ids), void, dict(self.names), dict(self.colors), told, keys)

    def _checked(self, where: str, size: tuple[int, int] | None, empty: bool = False) -> Masks:
        """These masks at `size`, if they have an object, or need none, and the aspect ratio of `size`."""
        objects = self.objects
        if not objects and not empty:
            raise InputError(f"{where} has no object: every pixel is background; mark at least one pixel.")
        if size is None or self.size == tuple(size):
            return self
        if not same_aspect(self.size, size):
            raise InputError(
                f"{where} is {_by(self.size)} but the video is {_by(size)}, another aspect ratio: paint the"
                " mask on a frame of this video."
            )
        result = self.resized(size)
        result.warnings.append(f"{where} is {_by(self.size)} and was resized to the video's {_by(size)}.")
        lost = sorted(set(objects) - set(result.objects))
        if objects and len(lost) == len(objects):
            raise InputError(
                f"{where} has no object left when resized from {_by(self.size)} to the video's {_by(size)}:"
                " paint the mask on a frame of this video."
            )
        if lost:
            ids = ", ".join(str(i) for i in lost)
            result.warnings.append(f"{where}: too small to survive the resizing: object {ids}.")
        return result


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes `(height, width)` are the same picture scaled, each side rounded by up to one pixel.

    The sides that were rounded are those of the smaller picture: with w = sW + e and h = sH + f, where
    |e|, |f| <= 1, the cross product wH - hW = eH - fW is at most H + W.
    """
    (h, w), (height, width) = sorted((tuple(first), tuple(second)), key=sum)
    return abs(w * height - h * width) <= height + width


def _by(size: tuple[int, int]) -> str:
    """`(height, width)` as users write it: width x height."""
    return f"{size[1]}x{size[0]}"

"""Maps: any array with values for each pixel of a frame: depth, flow, colours, class scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.masks import same_aspect
from vidtrack.labels.npz import open_npz
from vidtrack.labels.textfiles import head

_KINDS = "a map (.npy or .npz)"


@dataclass(eq=False)
class Maps:
    """The values of one frame.

    Attributes:
        values: float32 `[H, W, K]`, K values for each pixel, in any unit; nan where a pixel has no label.
        confidence: float32 `[H, W]`, 0..1, or None for annotations.
        warnings: one sentence for each thing about the file that the user should know.
    """

    values: np.ndarray
    confidence: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check shapes and types here, so that nothing downstream needs to."""
        if self.values.ndim != 3 or not self.values.size or self.values.dtype != np.float32:
            raise ValueError(
                f"values must be float32 [H, W, K], not {self.values.dtype} {list(self.values.shape)}"
            )
        if self.confidence is not None and (
            self.confidence.shape != self.values.shape[:2] or self.confidence.dtype != np.float32
        ):
            raise ValueError(
                f"confidence must be float32 {list(self.values.shape[:2])}, not {self.confidence.dtype}"
                f" {list(self.confidence.shape)}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)`."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def labelled(self) -> np.ndarray:
        """bool `[H, W]`: all values of the pixel are given."""
        return np.asarray(np.isfinite(self.values).all(axis=2))

    @classmethod
    def load(cls, path: Path | str, *, size: tuple[int, int] | None = None) -> Maps:
        """Read a `.npy` file, or a `.npz` file with one array or with `values` and perhaps `confidence`.

        Whole numbers and booleans become floats; `[H, W]` becomes K = 1. The content decides, never the
        extension.

        Args:
            path: the file.
            size: `(height, width)` of the video frame; a map of another size and the same aspect ratio is
                resized by nearest neighbour, which invents no values, with a warning.

        Raises:
            InputError: no such file, not numbers of these shapes, no label at all, another aspect ratio.
        """
        path = Path(path)
        values, confidence = _arrays(path)
        if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "biuf":
            raise InputError(
                f"{path} holds {values.dtype} {list(values.shape)}: save numbers [height, width] or [height,"
                " width, channels]."
            )
        with np.errstate(over="ignore"):
            values = values.reshape(*values.shape[:2], -1).astype(np.float32)
        if np.isinf(values).any():
            raise InputError(f"{path} holds infinite values: write nan where a pixel has no label.")
        if confidence is not None:
            fits = confidence.shape == values.shape[:2] and confidence.dtype.kind in "biuf"
            if not fits or not ((confidence >= 0) & (confidence <= 1)).all():
                raise InputError(f"{path} has a confidence that isn't 0..1 for each pixel: save it again.")
            confidence = confidence.astype(np.float32)
        result = cls(values, confidence)
        if not result.labelled.any():
            raise InputError(f"{path} has no label: every pixel is nan; give at least one pixel a value.")
        return result._fitted(str(path), size)

    def save(self, path: Path | str, overwrite: bool = False) -> None:
        """Write `.npz` with `values` and, where known, `confidence`, compressed; or `.npy` with values only.

        Args:
            path: of the file; its suffix decides.
            overwrite: replace a file that exists.

        Raises:
            InputError: another suffix, `path` exists and `overwrite` is False, or it can't be written.
        """
        path = Path(path)
        if path.suffix not in (".npy", ".npz"):
            raise InputError(f"{path} is neither .npy nor .npz: give the map one of these suffixes.")
        with atomic_file(path, overwrite) as partial:
            if path.suffix == ".npy":
                np.save(partial, self.values)
            elif self.confidence is None:
                np.savez_compressed(partial, values=self.values)
            else:
                np.savez_compressed(partial, values=self.values, confidence=self.confidence)

    def resized(self, size: tuple[int, int]) -> Maps:
        """The same map at `size` (height, width), by nearest neighbour."""
        rows, columns = _nearest(self.size[0], size[0]), _nearest(self.size[1], size[1])
        confidence = None if self.confidence is None else self.confidence[rows[:, None], columns]
        return Maps(self.values[rows[:, None], columns], confidence, list(self.warnings))

    def _fitted(self, where: str, size: tuple[int, int] | None) -> Maps:
        """This map at `size`, if it has the aspect ratio of `size`."""
        if size is None or self.size == tuple(size):
            return self
        own, wanted = (f"{width}x{height}" for height, width in (self.size, size))
        if self.values.shape[1:] == tuple(size):
            raise InputError(f"{where} has its channels first: save them last, [height, width, channels].")
        if not same_aspect(self.size, size):
            raise InputError(
                f"{where} is {own} but the video is {wanted}, another aspect ratio: make the map"
                " for a frame of this video."
            )
        result = self.resized(size)
        if not result.labelled.any():
            raise InputError(
                f"{where} has no label left when resized from {own} to the video's {wanted}: make the map"
                " for a frame of this video."
            )
        result.warnings.append(f"{where} is {own} and was resized to the video's {wanted}.")
        return result


def _nearest(length: int, target: int) -> np.ndarray:
    """int64 `[target]`: the pixel of `length` whose centre is nearest to each of `target` pixels' centres."""
    import cv2

    index = np.arange(length, dtype=np.float32)[:, None]  # [length, 1]
    resized = cv2.resize(index, (1, target), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized.ravel().astype(np.int64))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and confidence of a file, unchecked."""
    start = head(path, _KINDS)
    if not start.startswith((b"\x93NUMPY", b"PK")):
        raise InputError(f"{path} is neither .npy nor .npz: save the map with numpy.save.")
    try:
        if not start.startswith(b"PK"):
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False)), None
        with open_npz(path) as content:
            names = content.files
            key = "values" if "values" in names else names[0] if len(names) == 1 else None
            values = None if key is None else np.asarray(content[key])
            rated = key == "values" and "confidence" in names
            confidence = np.asarray(content["confidence"]) if rated else None
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds of errors for damaged files
        raise InputError(f"{path} is damaged, or holds no numbers: save it again with numpy.save.") from error
    if values is None:
        listed = ", ".join(names) or "none"
        raise InputError(f"{path} has several arrays or none ({listed}): name the map's `values`.")
    return values, confidence

"""A Session labels frames that come one by one: the annotated ones are told, the others follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.labels.agree import next_agrees
from vidtrack.labels.masks import Key
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.embedder import Embedder
from vidtrack.propagate.boxes import BoxCarrier
from vidtrack.propagate.carrier import Carrier, Confidence
from vidtrack.propagate.copied import CopyCarrier
from vidtrack.propagate.maps import MapCarrier
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.points import PointCarrier
from vidtrack.propagate.preset_carriers import PresetMaskCarrier, PresetPointCarrier
from vidtrack.propagate.settings import Propagation

Labels = Masks | Keypoints | Boxes | Maps
KINDS: tuple[type[Any], ...] = (Masks, Keypoints, Boxes, Maps)
NOTHING = torch.zeros(0)  # the embedding of a tracker that only copies


@dataclass
class Result:
    """The labels of one frame.

    Attributes:
        index: frame number in the video, from 0.
        time: seconds from the start of the video.
        labels: of the kind that was annotated; None for a damaged frame that was skipped.
        confidence: how far the labels can be trusted, 0..1: per object that is visible (masks, boxes), per
            instance (keypoints), or for the whole frame under 0 (maps).
        damaged: the frame could not be decoded, and repeats the one before, or only in part.
        image: the frame itself, uint8 `[H, W, 3]` RGB.
        name: the frame's name in files.
        soft: where it was asked for, the label map of masks: `labels` float32 `[h, w, K]`, channel 0 the
            background, `objects`, the ids of the other channels, and where the cells are: the size `working`
            at which they were made and their `stride`.
        doubtful: the frame was decoded, perhaps from a damaged one before it.
    """

    index: int
    time: Fraction
    labels: Any
    confidence: Confidence
    damaged: bool
    image: np.ndarray
    name: str
    soft: dict[str, Any] | None = None
    doubtful: bool = False


class Session:
    """Carries labels through frames that come one by one; memory stays bounded for ever.

    Args:
        embedder: turns frames into embeddings; None copies the last annotation (the "copy" baseline).
        settings: see `Propagation`.

    Attributes:
        seconds: time spent in each stage so far.
    """

    def __init__(self, embedder: Embedder | None, settings: Propagation) -> None:
        self.embedder, self.settings = embedder, settings
        self.carrier: Carrier[Any, Any] | None = None
        self.kind: type[Any] | None = None
        self.seconds = {"reading": 0.0, "embedding": 0.0, "pointers": 0.0, "readout": 0.0}
        self._size: tuple[int, int] | None = None
        self._index = -1
        self._keys: dict[Key, int] = {}  # the ids of colours and names

    @torch.inference_mode()
    def step(
        self,
        frame: np.ndarray,
        annotation: Labels | None = None,
        *,
        index: int | None = None,
        time: Fraction = Fraction(0),
        damaged: bool = False,
        name: str = "",
    ) -> Result:
        """Label the next frame.

        Args:
            frame: uint8 `[H, W, 3]` RGB; all frames of a session have one size.
            annotation: the frame's labels where the user gives them; the first step needs them, and all
                must be of one kind. They say all about their frame: an object that they lack is not in it.
                What has a colour or name of masks before has their id, see `vidtrack.labels.agree`.
            index, time, damaged, name: passed on to the result; the index counts up by itself.

        Raises:
            InputError: no annotation at the first step, or sizes or kinds that don't agree.
        """
        frame = checked_frame(frame)
        if annotation is None and self.carrier is None:
            raise InputError("the first frame needs an annotation: give the session its masks.")
        index = self._index + 1 if index is None else index
        self._check_size(index, frame)
        if annotation is not None:
            check_annotation(annotation, frame.shape[:2], self.kind)
            if self.carrier is None:
                require_inside([annotation], frame.shape[:2])
            if isinstance(annotation, Masks):
                annotation = next_agrees(annotation, self._keys)
            self.begin(type(annotation))
        self._index, self._size = index, _size(frame)  # only now: a refused frame is not counted
        assert self.carrier is not None
        region = None if annotation is not None else self.carrier.region()
        embedding = self.embed(frame, region)
        if annotation is not None:
            labels, confidence = annotation, self.annotate(self._index, embedding, frame, annotation)
        else:
            labels, confidence = self.read(self.carry(self._index, embedding, frame, region), frame)
        return Result(self._index, time, labels, confidence, damaged, frame, name or f"{self._index:05d}")

    def begin(self, kind: type[Any], objects: Iterable[int] = (), channels: int = 1) -> None:
        """Choose the carrier of a kind of label, see `make_carrier`; does nothing once it is chosen."""
        if self.carrier is None:
            stride = VideoColorizer.stride if self.embedder is None else self.embedder.stride
            carrier = make_carrier(kind, self.settings, stride, objects, channels)
            self.carrier = CopyCarrier(carrier) if self.embedder is None else carrier
            self.kind = kind

    def embed(self, frame: np.ndarray, region: Tensor | None = None) -> Tensor:
        """The frame's embedding `[h, w, C]`, at least where `region` is true; empty for "copy"."""
        if self.embedder is None:
            return NOTHING
        with self.timed("embedding"):
            return self.embedder(frame, self.settings.size, region)

    def annotate(self, index: int, embedding: Tensor, frame: np.ndarray, labels: Labels) -> Confidence:
        """Tell the labels of a frame; returns their confidence, which is 1."""
        assert self.carrier is not None
        self.carrier.annotate(index, embedding, _size(frame), labels)
        return self.carrier.given(labels)

    def carry(self, index: int, embedding: Tensor, frame: np.ndarray, region: Tensor | None = None) -> Any:
        """Carry the labels to the next frame, at the resolution of the embeddings."""
        assert self.carrier is not None
        with self.timed("pointers"):
            return self.carrier.step(index, embedding, frame, region)

    def read(self, carried: Any, frame: np.ndarray) -> tuple[Any, Confidence]:
        """From what was carried to the labels of the frame."""
        assert self.carrier is not None
        with self.timed("readout"):
            return self.carrier.read(carried, frame)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage of `seconds`."""
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - began

    def _check_size(self, index: int, frame: np.ndarray) -> None:
        size = _size(frame)
        if self._size is not None and size != self._size:
            raise InputError(
                f"frame {index} has {size[1]} x {size[0]} pixels, the ones before "
                f"{self._size[1]} x {self._size[0]}: all frames must have one size."
            )


def make_carrier(
    kind: type[Any], settings: Propagation, stride: int, objects: Iterable[int] = (), channels: int = 1
) -> Carrier[Any, Any]:
    """The carrier of a kind of label.

    Args:
        kind: of label.
        settings: see `Propagation`.
        stride: working pixels per cell.
        objects: ids of masks or boxes that are known from the start, in all frames; without them those of the
            latest annotation count.
        channels: of maps, for frames that no annotation reaches.

    Raises:
        InputError: no kind of label, or one that a preset doesn't know.
    """
    known = tuple(objects)
    makers: dict[type[Any], Callable[[], Carrier[Any, Any]]] = {
        Masks: lambda: MaskCarrier(settings, stride, known),
        Boxes: lambda: BoxCarrier(settings, stride, known),
        Maps: lambda: MapCarrier(settings, stride, channels),
        Keypoints: lambda: PointCarrier(settings, stride),
    }
    if kind not in makers:
        raise InputError(f"an annotation must be Masks, Keypoints, Boxes or Maps, not {kind.__name__}.")
    if settings.preset is None:
        return makers[kind]()
    if kind is Masks:
        return PresetMaskCarrier(settings, stride, known)
    if kind is Keypoints:
        return PresetPointCarrier(settings, stride)
    raise InputError(
        f"--preset {settings.preset} carries masks and keypoints, not {kind.__name__.lower()}: leave it out."
    )


def checked_frame(frame: object) -> np.ndarray:
    """The frame, contiguous and writable.

    Raises:
        InputError: it is not uint8 `[H, W, 3]`.
    """
    if not isinstance(frame, np.ndarray):
        raise InputError(f"a frame must be a numpy array, not {type(frame).__name__}.")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise InputError(
            f"a frame must be uint8 [height, width, 3] RGB, not {frame.dtype} {list(frame.shape)}."
        )
    return np.require(frame, requirements=["C_CONTIGUOUS", "WRITEABLE"])


def check_annotation(annotation: object, frame: tuple[int, ...], kind: type[Any] | None) -> None:
    """Raises InputError if an annotation is of another kind than the others, or doesn't fit its frame."""
    if kind is not None and not isinstance(annotation, kind):
        raise InputError(
            f"all annotations must be of one kind: {kind.__name__} and {type(annotation).__name__} "
            "don't go together."
        )
    height, width = frame[:2]
    size = getattr(annotation, "size", None)  # masks and maps cover the frame, points and boxes don't
    if isinstance(size, tuple) and size != (height, width):
        name = "mask" if isinstance(annotation, Masks) else "map"
        raise InputError(
            f"the {name} has {size[1]} x {size[0]} pixels and the frame {width} x {height}: "
            f"give a {name} of the frame's size."
        )


def require_inside(annotations: Iterable[object], frame: tuple[int, ...]) -> None:
    """Raises InputError if there are keypoints, and all outside of their frames; some may be."""
    height, width = frame[:2]
    given = [one.xy[one.labelled] for one in annotations if isinstance(one, Keypoints)]  # [N, 2] each
    places = np.concatenate(given) if given else np.empty((0, 2))
    inside = ((places >= -0.5) & (places < (width - 0.5, height - 0.5))).all(axis=-1)
    if len(places) and not inside.any():
        raise InputError(
            f"no keypoint is inside of the frame's {width} x {height} pixels: give (x, y) in pixels."
        )


def _size(frame: np.ndarray) -> tuple[int, int]:
    return frame.shape[0], frame.shape[1]

"""The public face: a Tracker carries labels through a video, a Session does it frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from pretrain.device import choose_device
from pretrain.errors import InputError
from vidtrack.files import sha256
from vidtrack.geometry import working_size
from vidtrack.labels.masks import Masks
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.embedder import STRIDE, Embedder, LabEmbedder, NetworkEmbedder
from vidtrack.model.tracker_file import load_tracker
from vidtrack.propagate.annotations import masks_to_cells
from vidtrack.propagate.propagator import Propagator
from vidtrack.propagate.readout import winners
from vidtrack.propagate.refine import Guide
from vidtrack.propagate.settings import Propagation
from vidtrack.video import VideoReader

DEFAULT = "default"


@dataclass
class Result:
    """The labels of one frame.

    Attributes:
        index: frame number in the video, from 0.
        time: seconds from the start of the video.
        labels: the masks, of the frame's size.
        confidence: per object that is visible, the mean winning probability inside its mask, 0..1.
        damaged: the frame could not be decoded and repeats the one before.
        image: the frame itself, uint8 `[H, W, 3]` RGB.
        name: the frame's name in files.
    """

    index: int
    time: Fraction
    labels: Masks
    confidence: dict[int, float]
    damaged: bool
    image: np.ndarray
    name: str


class Session:
    """Carries masks through frames that come one by one; memory stays bounded for ever.

    Args:
        embedder: turns frames into embeddings; None copies the last annotation (the "copy" baseline).
        settings: see `Propagation`.

    Attributes:
        seconds: time spent in each stage so far.
    """

    def __init__(self, embedder: Embedder | None, settings: Propagation) -> None:
        self.embedder, self.settings = embedder, settings
        self._propagator = Propagator(settings)
        self._objects: list[int] = []
        self._annotation: Masks | None = None
        self._index = -1
        self.seconds = {"reading": 0.0, "embedding": 0.0, "pointers": 0.0, "readout": 0.0}

    @torch.inference_mode()
    def step(
        self,
        frame: np.ndarray,
        annotation: Masks | None = None,
        *,
        index: int | None = None,
        time: Fraction = Fraction(0),
        damaged: bool = False,
        name: str = "",
    ) -> Result:
        """Label the next frame.

        Args:
            frame: uint8 `[H, W, 3]` RGB; all frames of a session have one size.
            annotation: the frame's masks where the user gives them; the first step needs them. They say
                all about their frame: an object that they lack is not in it.
            index, time, damaged, name: passed on to the result; the index counts up by itself.

        Raises:
            InputError: no annotation at the first step, or sizes that don't agree.
        """
        if not isinstance(frame, np.ndarray):
            raise InputError(f"a frame must be a numpy array, not {type(frame).__name__}.")
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(
                f"a frame must be uint8 [height, width, 3] RGB, not {frame.dtype} {list(frame.shape)}."
            )
        if annotation is not None and not isinstance(annotation, Masks):
            raise InputError(f"an annotation must be Masks, not {type(annotation).__name__}.")
        frame = np.require(frame, requirements=["C_CONTIGUOUS", "WRITEABLE"])
        if annotation is None and self._annotation is None:
            raise InputError("the first frame needs an annotation: give the session its masks.")
        if annotation is not None and annotation.size != frame.shape[:2]:
            raise InputError(
                f"the mask has {annotation.size[1]} x {annotation.size[0]} pixels and the frame "
                f"{frame.shape[1]} x {frame.shape[0]}: give a mask of the frame's size."
            )
        self._index = self._index + 1 if index is None else index
        labels, confidence = self._label(frame, annotation)
        return Result(self._index, time, labels, confidence, damaged, frame, name or f"{self._index:05d}")

    def _label(self, frame: np.ndarray, annotation: Masks | None) -> tuple[Masks, dict[int, float]]:
        if annotation is not None:
            self._annotation = annotation
            self._objects += [number for number in annotation.objects if number not in self._objects]
        known = self._annotation
        assert known is not None
        if known.size != frame.shape[:2]:
            raise InputError(
                f"frame {self._index} has {frame.shape[1]} x {frame.shape[0]} pixels, the annotated one "
                f"{known.size[1]} x {known.size[0]}: all frames must have one size."
            )
        if self.embedder is None:
            copied = Masks(known.ids, names=known.names, colors=known.colors)
            return copied, dict.fromkeys(known.objects, 1.0)
        with self._timed("embedding"):
            embedding = self.embedder(frame, self.settings.size)
        size = working_size(frame.shape[0], frame.shape[1], self.settings.size)
        if annotation is not None:
            maps = masks_to_cells(annotation.ids, annotation.void, self._objects, size, STRIDE)
            self._propagator.annotate(self._index, embedding, maps.to(embedding.device))
            return annotation, dict.fromkeys(annotation.objects, 1.0)
        with self._timed("pointers"):
            cells = self._propagator.step(self._index, embedding)
        with self._timed("readout"):
            guide = Guide(torch.from_numpy(frame).to(cells.device), size) if self.settings.refine else None
            original = (frame.shape[0], frame.shape[1])
            channel, confidence = winners(cells, size, STRIDE, original, guide, self.settings.foreground)
            ids = np.array([0, *self._objects], np.uint8)[channel.numpy()]
        masks = Masks(ids, names=known.names, colors=known.colors)
        return masks, {self._objects[k - 1]: value for k, value in confidence.items()}

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - began


class Tracker:
    """An embedder with its propagation settings; made by `load`.

    Attributes:
        name: what was loaded.
        settings: see `Propagation`.
        weights: SHA-256 of the tracker file, None without one.
    """

    def __init__(
        self, name: str, embedder: Embedder | None, settings: Propagation, weights: str | None = None
    ) -> None:
        self.name, self.embedder, self.settings, self.weights = name, embedder, settings, weights

    def session(self) -> Session:
        """A new session: frames come one by one."""
        return Session(self.embedder, self.settings)

    def propagate(
        self,
        source: Path | str,
        annotations: Mapping[int, Masks | Path | str] | None = None,
        *,
        masks: Mapping[int, Masks | Path | str] | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> Iterator[Result]:
        """Carry annotations forward through a video; yields one result per frame from `start` on.

        Args:
            source: video file or folder of frames.
            annotations: masks, or paths of mask files (see `Masks.load`), by frame number; the frame
                `start` must have one.
            masks: another name of `annotations`, for paths.
            start: the first frame.
            end: the frame after the last; None: to the end.

        Raises:
            InputError: no annotation at `start`, or an unusable video or mask.
        """
        for value in (annotations, masks):
            if value is not None and not isinstance(value, Mapping):
                raise InputError("give annotations by frame number: {0: Masks.load('first.png')}.")
        given = {**(annotations or {}), **(masks or {})}
        for number in given:
            if number < start or (end is not None and number >= end):
                raise InputError(f"the annotation of frame {number} lies outside of frames {start} to {end}.")
        with VideoReader(source, start, end) as reader:
            yield from self.run(reader, given, start)

    def run(
        self,
        reader: VideoReader,
        annotations: Mapping[int, Masks | Path | str] | None = None,
        start: int = 0,
        session: Session | None = None,
    ) -> Iterator[Result]:
        """As `propagate`, over a reader that the caller has opened at `start` and closes.

        `session` is one of this tracker's that the caller keeps, for its `seconds`.
        """
        size = (reader.info.height, reader.info.width)
        given = {number: _as_masks(value, size) for number, value in (annotations or {}).items()}
        if start not in given:
            raise InputError(f"frame {start} needs an annotation: give the mask of the first frame.")
        session = session or self.session()
        frames = iter(reader)
        while True:
            with session._timed("reading"):
                frame = next(frames, None)
            if frame is None:
                break
            yield session.step(
                frame.image,
                given.pop(frame.index, None),
                index=frame.index,
                time=frame.time,
                damaged=frame.damaged,
                name=frame.name,
            )

        if given:
            raise InputError(f"there is no frame {min(given)} to annotate: the video ends before it.")

    def describe(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON values."""
        embedder = self.embedder
        return {
            "tracker": self.name,
            "weights": self.weights,
            "propagation": self.settings.model_dump(mode="json"),
            "device": str(embedder.device) if embedder else "cpu",
            "dtype": str(getattr(embedder, "dtype", torch.float32)).removeprefix("torch."),
        }


def load(
    tracker: str | Path = DEFAULT, *, device: str = "auto", threads: int | None = None, **settings: Any
) -> Tracker:
    """Load a tracker.

    Args:
        tracker: "default" (the weights that come with vidtrack), the path of a tracker file,
            "random:resnet18" (random weights), "lab" (colour patches without learning), or "copy" (the first
            labels copied).
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of torch; None leaves torch's choice.
        **settings: propagation settings that replace those of the tracker file, see `Propagation`; None
            leaves them.

    Raises:
        InputError: unknown tracker, unusable file, a device that is not there, or an impossible setting.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    where = choose_device(device)
    name = str(tracker)
    changed = {key: value for key, value in settings.items() if value is not None}
    if changed.get("size") == "native":
        changed["size"] = None
    if name == "copy":
        return Tracker(name, None, _settings({}, changed))
    if name == "lab":
        return Tracker(name, LabEmbedder(where), _settings({}, changed))
    if name.startswith("random:"):
        torch.manual_seed(0)
        model = VideoColorizer(Model(backbone=name.removeprefix("random:"), zero_init=False))
        return Tracker(name, NetworkEmbedder(model, where), _settings({}, changed))
    path = default_weights() if name == DEFAULT else Path(name)
    if not path.is_file():
        raise InputError(
            f"there is no tracker {name!r}: give default, lab, copy, random:resnet18 or the path of a file "
            "made by vidtrack train."
        )
    file = load_tracker(path)
    embedder = NetworkEmbedder(file.model, where)
    return Tracker(name, embedder, _settings(file.propagation, changed), sha256(path))


def _as_masks(value: object, size: tuple[int, int]) -> Masks:
    if isinstance(value, Masks):
        return value
    if isinstance(value, (str, Path)):
        return Masks.load(value, size=size)
    raise InputError(f"an annotation must be Masks or the path of a mask file, not {type(value).__name__}.")


def default_weights() -> Path:
    """The tracker file that comes with vidtrack."""
    return Path(str(resources.files("vidtrack"))) / "weights" / "default.safetensors"


def _settings(stored: dict[str, Any], changed: dict[str, Any]) -> Propagation:
    from pydantic import ValidationError

    try:
        return Propagation.model_validate({**stored, **changed})
    except ValidationError as error:
        first = error.errors()[0]
        option = first["loc"][0] if first["loc"] else "setting"
        raise InputError(f"--{option} {first['input']!r}: {first['msg'].lower()}.") from error

"""Carrying annotations through a video: forward, backward, or both ways and joined between annotations."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
import torch
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.labels import Boxes
from vidtrack.session import Result, Session, check_annotation
from vidtrack.video import Frame, VideoIndex, VideoInfo, VideoReader, read_backward, read_frame

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)
Embed = Callable[[int, np.ndarray], Tensor]  # frame number and image to embedding
Span = tuple[int | None, int | None]  # the annotated frames before and after; None: there is none


class Reader(Protocol):
    """What frames are read from: `VideoReader`, or a live source."""

    info: VideoInfo
    warnings: list[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class Passes:
    """One propagation: iterate over it for one result per frame, in order of time.

    Between two annotations, `forward` carries the earlier one on, `backward` the later one back, and `both`
    does both and joins them; either way frames attend to both annotations. Frames that no annotation
    reaches get empty labels. A backward pass comes first and is laid aside on disk, at the resolution of the
    embeddings.

    Args:
        make: makes a session; called once for each direction.
        source: video file or folder of frames, or an open reader (forward only).
        annotations: labels by frame number, all of one kind, at least one.
        direction: see above.
        start, end: first frame, and the one after the last; None: to the end.
        embed: replaces the session's own way to embed a frame, for a cache.
        known: what an earlier run found of a frame, by its number; asked for the frames of `reused`.
        reused: spans whose frames need not be computed again.

    Attributes:
        info: of the video.
        warnings: sentences for the user, complete at the end.
        seconds: time spent in each stage.

    Raises:
        InputError: unusable video or annotations, at once or when they are reached.
    """

    def __init__(
        self,
        make: Callable[[], Session],
        source: Path | str | Reader,
        annotations: Mapping[int, Any],
        direction: Direction = "forward",
        start: int = 0,
        end: int | None = None,
        *,
        embed: Embed | None = None,
        known: Callable[[int], tuple[Any, dict[Any, float]]] | None = None,
        reused: frozenset[Span] = frozenset(),
    ) -> None:
        if direction not in DIRECTIONS:
            raise InputError(f"--direction {direction} is unknown: choose forward, backward or both.")
        for number in annotations:
            if number < start or (end is not None and number >= end):
                raise InputError(f"the annotation of frame {number} lies outside of frames {start} to {end}.")
        if not annotations:
            raise InputError("nothing is annotated: give the labels of at least one frame.")
        if direction != "forward" and not isinstance(source, (str, Path)):
            raise InputError("a live source knows no way back: use --direction forward.")
        self._make, self._direction, self._start, self._end = make, direction, start, end
        self._annotations = dict(sorted(annotations.items()))
        self._known, self._reused = known, reused
        self._reader: Reader = VideoReader(source, start, end) if isinstance(source, (str, Path)) else source
        self._path = Path(source) if isinstance(source, (str, Path)) else None
        self._index = VideoIndex(self._path) if self._path and self._path.is_file() else None
        self.info, self.warnings = self._reader.info, self._reader.warnings
        self._forward = self._session()
        self._embed = embed
        self.seconds = self._forward.seconds

    def _session(self) -> Session:
        session = self._make()
        kinds = {type(labels) for labels in self._annotations.values()}
        for labels in self._annotations.values():
            check_annotation(labels, (self._reader.info.height, self._reader.info.width), next(iter(kinds)))
        objects = {
            number
            for labels in self._annotations.values()
            for number in (labels.ids if isinstance(labels, Boxes) else getattr(labels, "objects", ()))
        }
        session.begin(next(iter(kinds)), sorted(objects))
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the video."""
        self._reader.close()

    def __iter__(self) -> Iterator[Result]:
        with tempfile.TemporaryDirectory(prefix="vidtrack-") as folder:
            yield from self._results(Path(folder))

    def _results(self, folder: Path) -> Iterator[Result]:
        numbers = list(self._annotations)
        behind: int | None = None
        ahead: int | None = numbers[0]
        laid: _Laid | None = None
        frames = iter(self._reader)
        first = True
        while (frame := self._next(frames)) is not None:
            if first or frame.index in self._annotations:
                first = False
                if frame.index in self._annotations:
                    behind = frame.index
                    ahead = next((n for n in numbers if n > behind), None)
                laid = self._enter((behind, ahead), folder, frame if behind == frame.index else None)
            if frame.index in self._annotations:
                labels = self._annotations[frame.index]
                assert self._forward.carrier is not None
                found = labels, self._forward.carrier.given(labels)
            else:
                found = self._label(frame, (behind, ahead), laid)
            yield Result(frame.index, frame.time, *found, frame.damaged, frame.image, frame.name)
        if ahead is not None:
            raise InputError(f"there is no frame {ahead} to annotate: the video ends before it.")

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        with self._forward.timed("reading"):
            return next(frames, None)

    @torch.inference_mode()
    def _enter(self, span: Span, folder: Path, frame: Frame | None) -> _Laid | None:
        """Prepare for the frames of a span; `frame` is the annotated one that it starts from."""
        behind, ahead = span
        if span in self._reused:
            return None
        if frame is not None and self._goes_forward(span):
            self._tell(self._forward, frame.index, frame.image)
            if ahead is not None:
                self._tell(self._forward, ahead, self._image(ahead), look_ahead=True)
        begin = self._start if behind is None else behind + 1
        if ahead is None or self._direction == "forward" or begin == ahead:
            return None
        return self._lay_aside(span, begin, folder)

    def _goes_forward(self, span: Span) -> bool:
        return span[0] is not None and (self._direction == "forward" or self._direction == "both")

    def _tell(self, session: Session, index: int, image: np.ndarray, look_ahead: bool = False) -> None:
        assert session.carrier is not None
        tell = session.carrier.look_ahead if look_ahead else session.carrier.annotate
        frame = (image.shape[0], image.shape[1])
        tell(index, self._embedding(index, image), frame, self._annotations[index])

    def _embedding(self, index: int, image: np.ndarray, session: Session | None = None) -> Tensor:
        """The embedding of a frame, where `session` will need it."""
        if self._embed is None:
            region = session.carrier.region() if session is not None and session.carrier else None
            return self._forward.embed(image, region)
        with self._forward.timed("embedding"):
            return self._embed(index, image)

    def _image(self, index: int) -> np.ndarray:
        """The picture of an annotated frame that is yet to come."""
        assert self._path is not None
        with self._forward.timed("reading"):
            try:
                return read_frame(self._path, index, index=self._index).image
            except InputError as error:
                raise InputError(
                    f"there is no frame {index} to annotate: the video ends before it."
                ) from error

    def _lay_aside(self, span: Span, begin: int, folder: Path) -> _Laid:
        """The backward pass of a span, frame by frame on disk."""
        behind, ahead = span
        assert ahead is not None and self._path is not None
        session = self._session()
        session.seconds = self._forward.seconds
        self._tell(session, ahead, self._image(ahead))
        if behind is not None:
            self._tell(session, behind, self._image(behind), look_ahead=True)
        laid = _Laid(folder, session)
        frames = iter(read_backward(self._path, begin, ahead, index=self._index, warnings=[]))
        while (frame := self._next(frames)) is not None:
            embedding = self._embedding(frame.index, frame.image, session)
            laid.put(frame.index, session.carry(frame.index, embedding, frame.image))
        return laid

    @torch.inference_mode()
    def _label(self, frame: Frame, span: Span, laid: _Laid | None) -> tuple[Any, dict[Any, float]]:
        carrier = self._forward.carrier
        assert carrier is not None
        if span in self._reused and self._known is not None:
            return self._known(frame.index)
        carried = None
        if self._goes_forward(span):
            embedding = self._embedding(frame.index, frame.image, self._forward)
            carried = self._forward.carry(frame.index, embedding, frame.image)
        if laid is not None:
            back = laid.take(frame.index)
            if carried is None:
                return laid.session.read(back, frame.image)
            behind, ahead = span
            assert behind is not None and ahead is not None
            carried = carrier.fuse(carried, back, (frame.index - behind) / (ahead - behind))
        if carried is None:
            return carrier.empty((frame.image.shape[0], frame.image.shape[1])), {}
        return self._forward.read(carried, frame.image)


class _Laid:
    """What a backward pass carried, on disk until its frame comes."""

    def __init__(self, folder: Path, session: Session) -> None:
        self._folder, self.session = folder, session

    def put(self, index: int, carried: Any) -> None:
        assert self.session.carrier is not None
        arrays: dict[str, Any] = self.session.carrier.pack(carried)
        np.savez(self._folder / f"{index}.npz", **arrays)

    def take(self, index: int) -> Any:
        assert self.session.carrier is not None
        path = self._folder / f"{index}.npz"
        with np.load(path) as file:
            carried = self.session.carrier.unpack(dict(file))
        path.unlink()
        return carried

"""Carrying annotations through a video: forward, backward, or both ways and joined between annotations."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.ahead import Embed, EmbedAhead
from vidtrack.geometry import working_size
from vidtrack.given import Direction, check_frames, check_layouts, unreached
from vidtrack.labels import Boxes, Maps
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.session import Result, Session, check_annotation, require_inside
from vidtrack.tolerance import OnError, Tolerance
from vidtrack.video import Damage, Frame, VideoIndex, VideoInfo, VideoReader, read_backward, read_frame

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
        passed: called after each frame of a backward pass, which gives no result yet.
        soft: results carry the soft label maps of masks.
        known: what an earlier run found of a frame, by its number; asked for the frames of `reused`.
        reused: spans whose frames need not be computed again.
        on_error: what is done about damaged frames, see `Tolerance`; results of skipped ones have no labels.

    Attributes:
        info: of the video.
        warnings: sentences for the user, complete at the end.
        damage: what went wrong with reading, complete at the end.
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
        passed: Callable[[], None] | None = None,
        soft: bool = False,
        known: Callable[[int], tuple[Any, dict[Any, float]]] | None = None,
        reused: frozenset[Span] = frozenset(),
        on_error: OnError = "repeat",
    ) -> None:
        check_frames(annotations, direction, start, end)
        if direction != "forward" and not isinstance(source, (str, Path)):
            raise InputError("a live source knows no way back: use --direction forward.")
        self._make, self._direction, self._start, self._end = make, direction, start, end
        self._annotations = dict(sorted(annotations.items()))
        self._known, self._reused = known, reused
        self._reader: Reader = VideoReader(source, start, end) if isinstance(source, (str, Path)) else source
        self._path = Path(source) if isinstance(source, (str, Path)) else None
        self._looks_ahead = isinstance(self._reader, VideoReader)
        self._index = VideoIndex(self._path) if self._path and self._path.is_file() else None
        self.info, self.warnings = self._reader.info, self._reader.warnings
        count = self.info.frames
        total = None if count is None else max(0, min(count, end or count) - start)
        self._tolerance = Tolerance(on_error, self.info.path, total, limited=self._path is not None)
        self._forward = self._session()
        self._embed, self._passed, self._soft = embed, passed, soft
        self.seconds = self._forward.seconds

    def _session(self) -> Session:
        session = self._make()
        kind = type(next(iter(self._annotations.values())))
        size = self._reader.info.height, self._reader.info.width
        for labels in self._annotations.values():
            check_annotation(labels, size, kind)
        require_inside(self._annotations.values(), size)
        check_layouts(self._annotations)
        objects = {
            number
            for labels in self._annotations.values()
            for number in (labels.ids if isinstance(labels, Boxes) else getattr(labels, "objects", ()))
        }
        first = next(iter(self._annotations.values()))
        session.begin(kind, sorted(objects), first.values.shape[-1] if isinstance(first, Maps) else 1)
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def damage(self) -> Damage:
        """See above; of a live source nothing is known but its damaged frames."""
        return self._reader.damage if isinstance(self._reader, VideoReader) else Damage()

    def close(self) -> None:
        """Close the video."""
        self._reader.close()

    def __iter__(self) -> Iterator[Result]:
        device = torch.device("cpu") if self._forward.embedder is None else self._forward.embedder.device
        ahead = EmbedAhead(self._compute, device)
        with tempfile.TemporaryDirectory(prefix="vidtrack-") as folder:
            try:
                yield from self._results(Path(folder), ahead)
            finally:
                ahead.close()

    def _results(self, folder: Path, embedder: EmbedAhead) -> Iterator[Result]:
        numbers = list(self._annotations)
        behind: int | None = None
        ahead: int | None = numbers[0]
        laid: _Laid | None = None
        frames = iter(self._reader)
        self._tolerance.require_no_loss(self.damage)
        frame, first, count, last = self._next(frames), True, 0, self._start
        while frame is not None:
            count, last = count + 1, frame.index
            self._tolerance.see(frame)
            annotated = frame.index in self._annotations
            if annotated:
                self._tolerance.require_whole(frame)
            if self._tolerance.skips(frame):
                yield _result(frame, None, {})
                frame = self._next(frames)
                continue
            if annotated:
                behind, ahead = frame.index, next((n for n in numbers if n > frame.index), None)
            if first or annotated:
                first = False
                laid = self._enter((behind, ahead), folder, frame if annotated else None)
            # A live source is not waited for while a frame could be labelled.
            following = self._next(frames) if self._looks_ahead else None
            with embedder.sharing() if self._looks_ahead else nullcontext():
                if following is not None and self._is_carried_to(following):
                    self._begin(following, (behind, ahead), embedder, later=0 if annotated else 1)
                if annotated:
                    result = self._given(frame)
                else:
                    result = self._label(frame, (behind, ahead), laid, embedder)
            yield result
            frame = following if self._looks_ahead else self._next(frames)
        if ahead is not None:
            raise InputError(
                f"there is no frame {ahead} to annotate: the video's last one is {last}, counted from 0."
            )
        self._tolerance.finish(count, self.damage)
        self.warnings.extend(unreached(self._annotations, self._direction, self._start, last))

    def _is_carried_to(self, frame: Frame) -> bool:
        return frame.index not in self._annotations and not self._tolerance.skips(frame)

    def _begin(self, frame: Frame, span: Span, embedder: EmbedAhead, later: int) -> None:
        """Start to embed a frame that will be carried to, before the one before it is labelled."""
        if self._goes_forward(span) and span not in self._reused:
            carrier = self._forward.carrier
            assert carrier is not None
            region = carrier.region(later) if self._embed is None else None
            embedder.submit(frame.index, frame.image, region)

    def _given(self, frame: Frame) -> Result:
        labels = self._annotations[frame.index]
        assert self._forward.carrier is not None
        return _result(frame, labels, self._forward.carrier.given(labels))

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
        tell(index, self._compute(index, image), frame, self._annotations[index])

    def _compute(self, index: int, image: np.ndarray, region: Tensor | None = None) -> Tensor:
        """The embedding of a frame, at least where `region` is true; a cache holds whole frames."""
        if self._embed is None:
            return self._forward.embed(image, region)
        with self._forward.timed("embedding"):
            return self._embed(index, image, None)

    def _image(self, index: int) -> np.ndarray:
        """The picture of an annotated frame that is yet to come."""
        assert self._path is not None
        with self._forward.timed("reading"):
            try:
                frame = read_frame(self._path, index, index=self._index)
            except InputError as error:
                raise InputError(
                    f"there is no frame {index} to annotate: the video ends before it."
                ) from error
        self._tolerance.require_whole(frame)
        return frame.image

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
            self._tolerance.see(frame)
            if not self._tolerance.skips(frame):
                region = session.carrier.region() if session.carrier and self._embed is None else None
                embedding = self._compute(frame.index, frame.image, region)
                laid.put(frame.index, session.carry(frame.index, embedding, frame.image, region))
            if self._passed is not None:
                self._passed()
        return laid

    @torch.inference_mode()
    def _label(self, frame: Frame, span: Span, laid: _Laid | None, embedder: EmbedAhead) -> Result:
        session = self._forward
        carrier = session.carrier
        assert carrier is not None
        if span in self._reused and self._known is not None:
            return _result(frame, *self._known(frame.index))
        carried = None
        if self._goes_forward(span):
            begun = embedder.take(frame.index)
            if begun is None:
                region = carrier.region() if self._embed is None else None
                begun = self._compute(frame.index, frame.image, region), region
            embedding, region = begun
            carried = session.carry(frame.index, embedding, frame.image, region)
        if laid is not None:
            back = laid.take(frame.index)
            behind, ahead = span
            if carried is None:
                carried, session = back, laid.session
            elif behind is not None and ahead is not None:
                carried = carrier.fuse(carried, back, (frame.index - behind) / (ahead - behind))
        if carried is None:
            empty = carrier.empty((frame.image.shape[0], frame.image.shape[1]))
            return _result(frame, empty, {})
        result = _result(frame, *session.read(carried, frame.image))
        if self._soft and isinstance(carrier, MaskCarrier):
            working = working_size(frame.image.shape[0], frame.image.shape[1], carrier.settings.size)
            labels, stride = carrier.soft(carried, working)
            result.soft = {
                "labels": labels.cpu().numpy(),
                "objects": list(carrier.objects),
                "working": working,
                "stride": stride,
            }
        return result


def _result(frame: Frame, labels: Any, confidence: dict[Any, float]) -> Result:
    return Result(
        frame.index,
        frame.time,
        labels,
        confidence,
        frame.damaged,
        frame.image,
        frame.name,
        doubtful=frame.doubtful,
    )


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
        return carried if self.session.embedder is None else moved(carried, self.session.embedder.device)


def moved(carried: Any, device: torch.device) -> Any:
    """What a carrier carried, with its tensors on a device."""
    tensors = {key: value for key, value in vars(carried).items() if isinstance(value, torch.Tensor)}
    return replace(carried, **{key: value.to(device) for key, value in tensors.items()})

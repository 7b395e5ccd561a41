"""Cameras and network streams: always the newest frame, never a queue."""

from __future__ import annotations

import re
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pretrain.errors import InputError
from vidtrack.video.colour import Converter
from vidtrack.video.container import NOT_VIDEO, average_rate, choose_stream, pixel_aspect, reason
from vidtrack.video.decode import MAX_READ_ERRORS, Damage, Picture, decode
from vidtrack.video.frame import Frame, VideoInfo, frame_name

_OPEN, _READ = 10.0, 5.0  # seconds after which a source that says nothing is given up
_CAMERAS = {  # sys.platform -> FFmpeg's input device, and how it names camera N
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
    "win32": ("dshow", "video={}"),
}
_FORMATS = ",".join(sorted(av.formats_available - NOT_VIDEO | {"hls", "dash"}))  # these two are live lists
# FFmpeg's own protocols for pipes, and for parts and lists of files.
_NOT_LIVE = {"concat", "concatf", "subfile", "pipe", "fd", "data", "crypto", "cache", "async"}


def is_live(source: str) -> bool:
    """Whether `source` is a camera number or an address, not a path."""
    return source.isdecimal() or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


class LiveReader:
    """Iterator over the newest frames of a camera or network stream, with the interface of `VideoReader`.

    A thread receives and decodes everything; a consumer that is slower gets the newest frame, and those in
    between are dropped and counted. So memory and latency don't grow. `index` numbers what was received:
    it jumps where frames were dropped. The iterator ends where the stream does, when it is cut off (then
    `warnings` tell it) or when `close` is called.

        with LiveReader("0") as reader:
            for frame in reader:
                print(frame.index, reader.latency(frame), reader.dropped)

    Args:
        source: number of a camera ("0"), or an address that FFmpeg can open (rtsp, http, udp, ...).

    Attributes:
        info: see `VideoInfo`; `frames` and `duration` are None.
        warnings: sentences for the user; complete when the iterator ended.
        dropped: frames so far that were received but not handed out.

    Raises:
        InputError: a source that can't be opened, or gives no picture that can be decoded.
    """

    def __init__(self, source: str) -> None:
        self.warnings: list[str] = []
        shown = _shown(source)
        container, stream = _open(source, shown)
        try:
            damage, slot = Damage(), _Slot()
            rate = average_rate(stream, None)
            pictures = decode(container, stream, 1 / rate, damage, _packets(container, stream, damage, slot))
            first = next(pictures, None)
            if first is None:
                raise InputError(f"{shown} gives no picture that can be decoded: check the source.")
        except av.error.FFmpegError as error:
            container.close()
            raise InputError(f"{shown} gives no picture ({_told(error)}): check the source.") from error
        except BaseException:
            container.close()
            raise
        self._shown, self._damage = shown, damage
        self._converter = Converter(first.picture, shown)
        self.info = VideoInfo(
            path=Path(shown),
            kind="live",
            width=self._converter.size[0],
            height=self._converter.size[1],
            rate=rate,
            frames=None,
            duration=None,
            codec=stream.codec_context.name,
            rotation=self._converter.rotation,
            has_audio=bool(container.streams.audio),
            pixel_aspect=pixel_aspect(stream, self._converter.rotation),
            address=shown,
        )
        self._slot = slot
        slot.put(_Received(0, first, time.monotonic()))
        self._thread = threading.Thread(
            target=_receive, args=(container, pictures, self._slot), name="receive", daemon=True
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, _stop, self._thread, self._slot)

    @property
    def dropped(self) -> int:
        """Frames so far that were received but not handed out."""
        return self._slot.dropped

    def latency(self, frame: Frame) -> float:
        """Seconds since `frame`, one of this reader's, had been received.

        Raises:
            ValueError: the frame is not of a live source.
        """
        if frame.captured is None:
            raise ValueError("the frame is not of a live source")
        return time.monotonic() - frame.captured

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        received = self._slot.take()
        if received is None:
            self._tell()
            raise StopIteration
        picture = received.picture
        image = self._converter.rgb(picture.picture)  # here: dropped frames are never converted
        number = received.number
        name = frame_name(number)
        return Frame(number, picture.time, image, picture.damaged, name, received.captured, picture.doubtful)

    def _tell(self) -> None:
        damage, self._damage = self._damage, Damage()  # told once
        if damage.damaged:
            self.warnings.append(
                f"{self._shown}: {damage.damaged} of {damage.frames} frames were not received whole."
            )
        error, self._slot.error = self._slot.error, None
        if error is not None:
            self.warnings.append(f"{self._shown} was cut off ({_told(error)}).")

    def close(self) -> None:
        """Stop receiving and close the source, at the latest after 5 seconds. Nothing the second time."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class _Received:
    number: int
    picture: Picture
    captured: float


@dataclass
class _Slot:
    """Room for one picture, between the thread that receives and the consumer."""

    newest: _Received | None = None
    dropped: int = 0
    ended: bool = False  # no more will come
    stopped: bool = False  # no more is wanted
    error: Exception | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, received: _Received) -> bool:
        """Replace the picture; False when no more is wanted."""
        with self.changed:
            self.dropped += self.newest is not None
            self.newest = received
            self.changed.notify()
            return not self.stopped

    def end(self, error: Exception | None) -> None:
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify()

    def take(self) -> _Received | None:
        """Wait for a picture and remove it; None at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.newest is not None or self.ended or self.stopped)
            received, self.newest = self.newest, None
            return None if self.stopped else received


def _packets(
    container: InputContainer, stream: VideoStream, damage: Damage, slot: _Slot
) -> Iterator[Packet | None]:
    """The packets as they come, until no more come or are wanted; raises when the source is cut off."""
    errors = 0
    while not slot.stopped:
        try:
            for packet in container.demux(stream):
                if slot.stopped:
                    return
                if packet.size:
                    errors = 0
                    damage.packets += 1
                    yield packet
            break
        except av.error.InvalidDataError:  # a part was lost; what comes next may be good
            errors += 1
            if errors == MAX_READ_ERRORS:
                raise
    yield None


def _receive(container: InputContainer, pictures: Iterator[Picture], slot: _Slot) -> None:
    """Body of the thread; a function, so that the thread keeps no reference to the reader."""
    error: Exception | None = None
    try:
        for number, picture in enumerate(pictures, 1):
            if not slot.put(_Received(number, picture, time.monotonic())):
                break
    except Exception as caught:  # handed over to the consumer
        error = caught
    finally:
        slot.end(error)
        container.close()


def _stop(thread: threading.Thread, slot: _Slot) -> None:
    with slot.changed:
        slot.stopped = True
        slot.newest = None
        slot.changed.notify()
    if thread is not threading.current_thread():
        thread.join(_READ + 1)  # a driver that hangs must not hang its user: the thread is a daemon


def _open(source: str, shown: str) -> tuple[InputContainer, VideoStream]:
    """Open a camera or an address and choose its video stream; the caller closes the container."""
    if not is_live(source):
        raise InputError(f"{shown} is neither a camera number nor an address such as rtsp://HOST/PATH.")
    name, kind, options = source, None, {"rtsp_transport": "tcp"}
    if source.isdecimal():
        kind, name = _camera(int(source))
        options = {}
    elif source.split(":", 1)[0].lower() in _NOT_LIVE:
        raise InputError(
            f"{shown} is no stream: give an address such as rtsp://HOST/PATH or http://HOST/PATH."
        )
    try:
        container = av.open(
            name,
            format=kind,
            options=options,
            container_options={} if kind else {"format_whitelist": _FORMATS},
            timeout=(_OPEN, _READ),
            metadata_errors="replace",
        )
    except Exception as error:  # whatever a network or a driver makes PyAV raise
        advice = "check that it is connected and free" if kind else "check the address"
        what = f"camera {shown}" if kind else shown
        raise InputError(f"{what} can't be opened ({reason(error)}): {advice}.") from error
    try:
        return container, choose_stream(container, shown)
    except BaseException:
        container.close()
        raise


def _camera(number: int) -> tuple[str, str]:
    """FFmpeg's input device, and its name for the camera `number`."""
    device, name = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    if device == "v4l2" and not Path(name.format(number)).exists():
        raise InputError(
            f"there is no camera {number} ({name.format(number)}): connect one, or choose another."
        )
    if device == "dshow":  # Windows knows its cameras by name only
        names = [d.name for d in av.enumerate_input_devices("dshow") if "video" in d.media_types]
        if number >= len(names):
            raise InputError(f"there is no camera {number}: {len(names)} were found.")
        return device, name.format(names[number])
    return device, name.format(number)


def _told(error: Exception) -> str:
    """What went wrong; FFmpeg calls a time-out a wish to leave."""
    if isinstance(error, av.error.ExitError):
        return f"nothing was received for {_READ:.0f} seconds"
    return reason(error)


def _shown(source: str) -> str:
    """The source without a password, and without what follows a question mark, for messages and files."""
    return re.sub(r"(://[^?]*\?).*", r"\1***", re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", source))

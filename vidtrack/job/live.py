"""A camera or stream as the source of a run: frames are counted as they are taken, and Ctrl-C is the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from vidtrack.video import Frame, LiveReader, VideoInfo, frame_name


class LiveSource:
    """The frames of a `LiveReader`, numbered 0, 1, 2, ... without the dropped ones.

    Args:
        source: see `LiveReader`.
        frames: how many to take; None: until the source ends, or `stop` is called.

    Attributes:
        info: see `VideoInfo`.
        warnings: sentences for the user.
        latencies: seconds from receiving a frame to its result: their sum, and the largest.

    Raises:
        InputError: a source that can't be opened.
    """

    def __init__(self, source: str, frames: int | None = None) -> None:
        self._reader = LiveReader(source)
        self._limit = frames
        self._stopped = False
        self._newest: Frame | None = None
        self._count = 0
        self.info: VideoInfo = self._reader.info
        self.warnings = self._reader.warnings
        self.latencies = (0.0, 0.0)

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(self._reader):
            if self._stopped:
                return
            self._newest = frame
            yield replace(frame, index=number, name=frame_name(number))
            if number + 1 == self._limit:
                return

    def note(self) -> None:
        """The result of the newest frame is there: measure its latency."""
        assert self._newest is not None
        latency = self._reader.latency(self._newest)
        total, largest = self.latencies
        self.latencies = total + latency, max(largest, latency)
        self._count += 1

    def report(self) -> dict[str, float]:
        """Mean and largest latency in milliseconds, and how many frames were received but not taken."""
        total, largest = self.latencies
        return {
            "mean_latency_ms": round(1000 * total / max(1, self._count), 1),
            "max_latency_ms": round(1000 * largest, 1),
            "dropped_frames": self._reader.dropped,
        }

    def stop(self) -> None:
        """End after the frame in work; may be called from a signal handler."""
        self._stopped = True
        # Closing waits for the receiving thread, which a signal handler must not.
        threading.Thread(target=self._reader.close, name="close", daemon=True).start()

    def close(self) -> None:
        """Close the source."""
        self._reader.close()

    @contextmanager
    def ended_by_interrupt(self) -> Iterator[None]:
        """Inside, the first Ctrl-C is the end of the source; the second interrupts as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def handle(number: int, where: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self.stop()

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

"""Ctrl-C, and the request to end that schedulers and `docker stop` send (SIGTERM): both mean the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_to_parent(worker: int = 0) -> None:
    """For a process that works for another: Ctrl-C reaches both, and is the other one's affair.

    Args:
        worker: its number, as a data loader tells it; not used.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Handlers:
    """What is called at these signals, until `restore`; nothing outside of the main thread.

    A signal that is ignored, as a shell's background jobs ignore Ctrl-C, stays so.

    Args:
        call: called with the signal's number.
    """

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call
        self._before: dict[int, Any] = {}
        self._restored = False
        if threading.current_thread() is threading.main_thread():
            self._before = {n: old for n in SIGNALS if (old := signal.getsignal(n)) != signal.SIG_IGN}
            self.renew()

    def renew(self) -> None:
        """Take the signals again, from whoever took them meanwhile."""
        if not self._restored:
            for number in self._before:
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give them back to whoever had them before."""
        self._restored = True
        for number, old in self._before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._restored:
            self._call(number)
        else:  # someone gave them to us again
            self.restore()
            signal.raise_signal(number)


@contextmanager
def held_back() -> Iterator[None]:
    """Context manager: inside, the first signal has no effect: what is nearly done comes to its end.

    The second one is as before.
    """

    def first(number: int) -> None:
        handlers.restore()

    handlers = Handlers(first)
    try:
        yield
    finally:
        handlers.restore()

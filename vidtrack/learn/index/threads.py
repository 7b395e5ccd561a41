"""Work on many videos in as many threads as there are cores: PyAV decodes without Python's lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

GoesOn = Callable[[], bool]  # says no once nobody waits for the result


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[T, GoesOn], R], items: Sequence[T], threads: int | None = None
) -> Generator[R, None, None]:
    """The results of `work` in the order of `items`.

    When the generator is closed (do so: an exception in its consumer does not), or an exception leaves it,
    work that was not begun is dropped, and that in progress is asked to stop and waited for.

    Args:
        work: called with an item and a function that says whether to go on.
        items: one call for each.
        threads: how many at once; `cores()` if left out.
    """
    stopped = threading.Event()
    pool = ThreadPoolExecutor(threads or cores(), "footage")
    try:
        yield from pool.map(lambda item: work(item, lambda: not stopped.is_set()), items)
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)

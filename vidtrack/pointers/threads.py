"""Work on independent parts in as many threads as torch uses, or as are wanted, one torch thread each.

Small operations on a tile scale badly inside torch: two tiles side by side, each in its own thread, do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


_wanted: ContextVar[int | None] = ContextVar("threads of in_threads", default=None)


@contextmanager
def threads_wanted(count: int) -> Iterator[None]:
    """Inside, and in this thread, `in_threads` uses so many threads, however many torch uses."""
    token = _wanted.set(count)
    try:
        yield
    finally:
        _wanted.reset(token)


def in_threads(work: Callable[[A], B], parts: Iterable[A], device: torch.device) -> list[B]:
    """`[work(part) for part in parts]`, in threads on a CPU; gradients are not recorded."""
    before = torch.get_num_threads()
    threads = _wanted.get() or before
    if device.type != "cpu" or threads == 1:
        with torch.inference_mode():
            return [work(part) for part in parts]
    changed: list[bool] = []

    def one(part: A) -> B:
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)  # of this thread, and the default of threads that are still to come
            changed.append(True)
        with torch.inference_mode():
            return work(part)

    try:
        return list(_pool(threads).map(one, parts))
    finally:
        if changed:
            torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pointers")

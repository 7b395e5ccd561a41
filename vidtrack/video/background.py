"""Two bounded hand-overs between threads: decode ahead of the caller, encode behind the caller."""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL = 0.05  # seconds after which a blocked thread looks whether the other side has gone


class _End:
    """Last item of a queue, with the error that ended the sender, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _put(items: queue.Queue[T | _End], item: T | _End, stopped: threading.Event) -> bool:
    """Put `item`, waiting for room; False when the receiver stopped."""
    while not stopped.is_set():
        try:
            items.put(item, timeout=_POLL)
            return True
        except queue.Full:
            continue
    return False


def _produce(source: Iterator[T], items: queue.Queue[T | _End], stopped: threading.Event) -> None:
    """Body of the thread of `Ahead`; a function, so that the thread keeps no reference to the object."""
    try:
        for item in source:
            if not _put(items, item, stopped):
                return
        _put(items, _End(), stopped)
    except BaseException as error:  # handed over, whatever it is: the consumer raises it
        _put(items, _End(error), stopped)
    finally:
        if isinstance(source, Generator):
            source.close()  # here, not where the garbage collector finds it: it holds an open file


class Ahead(Generic[T]):
    """Iterator over `source` that a thread runs up to `size` items ahead of its consumer.

    An exception of the source is raised to the consumer, after the items that came before it. `close` (also
    called when the object is collected) stops the thread and waits for it.
    """

    def __init__(self, source: Iterable[T], size: int) -> None:
        self._items: queue.Queue[T | _End] = queue.Queue(maxsize=size)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_produce, args=(iter(source), self._items, self._stopped), name="decode", daemon=True
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, _join, self._thread, self._stopped)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while True:
            if self._stopped.is_set():
                raise StopIteration
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=_POLL)
                break
        if isinstance(item, _End):
            self.close()
            if item.error is not None:
                raise item.error
            raise StopIteration
        return item

    def close(self) -> None:
        """Stop the thread; items that nobody took are dropped. Does nothing the second time."""
        self._finalizer()


def _join(thread: threading.Thread, stopped: threading.Event) -> None:
    stopped.set()
    if thread is not threading.current_thread():
        thread.join()


class Behind(Generic[T]):
    """A thread that calls `work(item)` for everything given to `put`, at most `size` items behind.

    When `work` raises, the thread stops; that error comes out of the next `put` or of `finish`, once.
    """

    def __init__(self, work: Callable[[T], None], size: int) -> None:
        self._work = work
        self._items: queue.Queue[T | _End] = queue.Queue(maxsize=size)
        self._stopped = threading.Event()  # the thread takes nothing more
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._consume, name="encode", daemon=True)
        self._thread.start()

    def _consume(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    item = self._items.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if isinstance(item, _End):
                    return
                self._work(item)
        except BaseException as error:  # handed over to the caller of put or finish
            self._error = error
        finally:
            self._stopped.set()

    def put(self, item: T) -> None:
        """Hand over `item`, waiting while `size` items are unfinished."""
        if not _put(self._items, item, self._stopped):
            self._raise()
            raise RuntimeError("the thread was stopped before")

    def finish(self) -> None:
        """Wait until everything is done, and raise the error of the work, if any."""
        _put(self._items, _End(), self._stopped)
        self._thread.join()
        self._raise()

    def abort(self) -> None:
        """Stop after the item in work, dropping the others and any error."""
        self._stopped.set()
        self._thread.join()

    def _raise(self) -> None:
        self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

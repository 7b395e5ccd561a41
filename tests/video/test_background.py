"""The two bounded hand-overs between threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from vidtrack.video.background import Ahead, Behind


class Counter:
    """Counts what was taken from it, and whether it was closed."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.taken, self.closed = 0, False
        self._count, self._fail_at = count, fail_at

    def items(self) -> Iterator[int]:
        try:
            for i in range(self._count):
                if i == self._fail_at:
                    raise KeyError("broken")
                self.taken += 1
                yield i
        finally:
            self.closed = True


def wait_for(condition) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_ahead_keeps_the_order_and_closes_its_source():
    source = Counter(50)
    assert list(Ahead(source.items(), 3)) == list(range(50))
    assert source.closed


def test_ahead_is_bounded():
    source = Counter(50)
    ahead = Ahead(source.items(), 3)
    wait_for(lambda: source.taken == 4)  # three in the queue, one in hand
    time.sleep(0.1)
    assert source.taken == 4
    assert next(ahead) == 0
    wait_for(lambda: source.taken == 5)
    ahead.close()
    assert source.closed
    assert source.taken == 5
    assert list(ahead) == []


def test_ahead_passes_the_error_on_after_the_items_before_it():
    ahead = Ahead(Counter(50, fail_at=2).items(), 8)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
    assert list(ahead) == []


def test_behind_does_everything_in_order():
    done: list[int] = []
    behind = Behind(done.append, 2)
    for i in range(40):
        behind.put(i)
    behind.finish()
    assert done == list(range(40))


def test_behind_is_bounded():
    gate, done = threading.Event(), []

    def work(item: int) -> None:
        gate.wait()
        done.append(item)

    behind = Behind(work, 2)
    for i in range(3):  # one in work, two waiting
        behind.put(i)
    blocked = threading.Thread(target=behind.put, args=(3,))
    blocked.start()
    blocked.join(0.2)
    assert blocked.is_alive()
    gate.set()
    blocked.join()
    behind.finish()
    assert done == [0, 1, 2, 3]


def test_behind_raises_the_error_of_the_work():
    def work(item: int) -> None:
        if item == 1:
            raise KeyError("broken")

    behind = Behind(work, 1)
    with pytest.raises(KeyError, match="broken"):
        for i in range(100):
            behind.put(i)
    behind = Behind(work, 10)
    behind.put(1)
    with pytest.raises(KeyError, match="broken"):
        behind.finish()


def test_behind_aborts_without_doing_the_rest():
    gate, done = threading.Event(), []

    def work(item: int) -> None:
        gate.wait()
        done.append(item)

    behind = Behind(work, 5)
    for i in range(4):
        behind.put(i)
    stop = threading.Timer(0.1, gate.set)
    stop.start()
    behind.abort()
    assert len(done) <= 1

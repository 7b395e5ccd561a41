"""Parts in threads give what a loop gives, and leave torch's settings alone."""

import threading

import pytest
import torch

from vidtrack.pointers.threads import in_threads, threads_wanted

CPU = torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 2])
def test_order_and_thread_count(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen: list[int] = []

        def work(part: int) -> int:
            seen.append(torch.get_num_threads())
            return part * part

        assert in_threads(work, range(20), CPU) == [n * n for n in range(20)]
        assert set(seen) == {1}
        assert torch.get_num_threads() == threads
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [threads]  # threads that begin later are not slowed down
    finally:
        torch.set_num_threads(before)


def test_more_threads_than_torch_uses() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        both = threading.Barrier(2)  # each part waits for another one beside it
        with threads_wanted(2):
            assert in_threads(lambda part: both.wait(60) >= 0, range(4), CPU) == [True] * 4
        assert torch.get_num_threads() == 1
        here = threading.current_thread()
        assert in_threads(lambda part: threading.current_thread() is here, range(2), CPU) == [True] * 2
    finally:
        torch.set_num_threads(before)


def test_an_error_reaches_the_caller() -> None:
    def fail(part: int) -> int:
        raise RuntimeError(f"part {part}")

    with pytest.raises(RuntimeError, match="part 0"):
        in_threads(fail, [0, 1], CPU)

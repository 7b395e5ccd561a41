"""Embedding the next frame while the labels of the current one are still being carried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vidtrack.pointers.threads import threads_wanted

Embed = Callable[[int, np.ndarray, Tensor | None], Tensor]  # frame number, image, region to embedding


class EmbedAhead:
    """Embeddings of frames to come, made one at a time in a thread of its own.

    A network keeps several cores busy, many small steps on cells don't: side by side they take about as long
    as the longer of the two. On one core, or with the network on another device, nothing is done ahead, but
    the regions are the same, and so is the result.

    Args:
        embed: makes the embedding.
        device: of the embeddings.
    """

    def __init__(self, embed: Callable[..., Tensor], device: torch.device) -> None:
        self._embed = embed
        self._all = torch.get_num_threads()
        self._own = max(1, self._all // 2)
        self.on = device.type == "cpu" and self._all > 1
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="embed") if self.on else None
        self._waiting: dict[int, tuple[Tensor | None, Callable[[], Tensor]]] = {}

    def submit(self, index: int, image: np.ndarray, region: Tensor | None) -> None:
        """Begin with a frame, which will be taken."""
        if self._executor is None:
            self._waiting[index] = region, partial(self._embed, index, image, region)
        else:
            future: Future[Tensor] = self._executor.submit(self._work, index, image, region)
            self._waiting[index] = region, future.result

    def take(self, index: int) -> tuple[Tensor, Tensor | None] | None:
        """The embedding of a frame that was submitted and its region; None if it was not."""
        if index not in self._waiting:
            return None
        region, embedding = self._waiting.pop(index)
        return embedding(), region

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Inside, this thread leaves the network its share of the cores; the search of pointers takes all.

        A network in 8-bit integers is done long before the search is, which would leave its cores idle; its
        threads outnumber the cores as long as both run, and what runs on torch's own threads would suffer.
        """
        if not self.on:
            yield
            return
        torch.set_num_threads(self._all - self._own)
        try:
            with threads_wanted(self._all):
                yield
        finally:
            torch.set_num_threads(self._all)

    def close(self) -> None:
        """Wait for what was begun, and forget it."""
        self._waiting.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def _work(self, index: int, image: np.ndarray, region: Tensor | None) -> Tensor:
        if torch.get_num_threads() != self._own:
            torch.set_num_threads(self._own)  # of this thread
        return self._embed(index, image, region)

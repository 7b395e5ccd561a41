"""Which samples a step sees: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pretrain.interrupts import leave_to_parent

Draw = tuple[int, int, int, int]  # seed, step, position in the batch, index of the sample


class StepSampler(Sampler[list[Draw]]):
    """Batches of draws for the steps `first_step .. steps - 1`: a pure function of the seed and the step.

    The samples are visited in a new random order in each pass over the data, without regard to where
    a step or a resumed run begins. All batches of a step together are what one large batch would be.

    Args:
        length: number of samples.
        batch: samples in a batch, of one process.
        steps: number of steps of the whole run.
        seed: the run's seed.
        first_step: the step to begin with (the number of steps already done).
        rank, world: number of this process, and of all.
        accumulate: batches in a step, of one process.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        steps: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.length, self.batch, self.steps, self.seed = length, batch, steps, seed
        self.first_step, self.rank, self.world, self.accumulate = first_step, rank, world, accumulate

    def __len__(self) -> int:
        # Of the whole run: Lightning counts the batches that a resumed run has behind it.
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        orders: dict[int, np.ndarray] = {}
        own = self.accumulate * self.batch
        for step in range(self.first_step, self.steps):
            draws = []
            for position in range(self.rank * own, (self.rank + 1) * own):
                epoch, place = divmod(step * self.world * own + position, self.length)
                if epoch not in orders:
                    orders = {e: o for e, o in orders.items() if e == epoch - 1}
                    orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                draws.append((self.seed, step, position, int(orders[epoch][place])))
            yield from (draws[start : start + self.batch] for start in range(0, own, self.batch))


def draw_rng(draw: Draw) -> np.random.Generator:
    """The random generator of one draw: the same in every process and after every resume."""
    seed, step, position, _ = draw
    return np.random.default_rng([seed, step, position, 1])


def loader(
    dataset: Dataset[Any],
    sampler: StepSampler,
    workers: int,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """DataLoader over a data set whose `__getitem__` takes a `Draw`."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=leave_to_parent,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
    )

"""The random numbers of one training step: a function of seed and step, for any number of processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Random numbers for the samples of one step.

    Numbers are drawn for the samples of all processes, and each process takes the rows of its own: two
    processes with a batch of n see what one process with a batch of 2 n sees. They are drawn on the CPU, so
    that every device sees the same.

    Args:
        seed: the run's seed.
        step: the training step.
        count: samples of this process.
        rank, world: number of this process, and of all.
        device: where the numbers are wanted.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        count: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.count, self.rank, self.world, self.device = count, rank, world, torch.device(device)
        state = np.random.SeedSequence([seed, step, 3]).generate_state(1, np.uint64)[0]
        self.generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn[self.rank * self.count : (self.rank + 1) * self.count].to(self.device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Float `[count, *shape]`, uniform in `low .. high`."""
        drawn = torch.rand(self.world * self.count, *shape, generator=self.generator)
        return self._own(low + (high - low) * drawn)

    def normal(self, *shape: int) -> Tensor:
        """Float `[count, *shape]`, standard normal."""
        return self._own(torch.randn(self.world * self.count, *shape, generator=self.generator))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Int64 `[count, *shape]` in `0 .. high - 1`."""
        return self._own(torch.randint(high, (self.world * self.count, *shape), generator=self.generator))

    def chance(self, probability: float) -> Tensor:
        """Bool `[count]`: true with the given probability."""
        return self.uniform() < probability

    def permutations(self, length: int) -> Tensor:
        """Int64 `[count, length]`: a random order of `0 .. length - 1` for each sample."""
        return self.uniform(length).argsort(dim=1)

    def batch_order(self) -> Tensor:
        """Int64 `[world * count]`: one random order of all samples, the same in every process."""
        return torch.randperm(self.world * self.count, generator=self.generator).to(self.device)

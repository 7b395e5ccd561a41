"""Looking at a model in the middle of its training, without a trace in the run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import nn


class Check(Protocol):
    """Work between two steps that looks at what was learned, such as a validation."""

    def due(self, step: int, steps: int, minutes: float) -> bool:
        """Whether it is time, after `step` of `steps` steps; step 0 is before the first one.

        `minutes` is how long the run has learned since it was last looked at, all its stretches together.
        """

    def __call__(self, step: int) -> None:
        """Look. Called in the first process alone, without gradients."""


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Context manager: no gradients; afterwards random states and the modes of all parts are as before."""
    modes = [(part, part.training) for part in module.modules()]
    of_python, of_numpy = random.getstate(), np.random.get_state()
    device = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(device), torch.no_grad():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        for part, training in modes:
            part.training = training

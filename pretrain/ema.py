"""The moving average of a model's weights, which is calmer than the weights themselves.

Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; as a teacher: Tarvainen &
Valpola 2017, "Mean teachers are better role models" (arXiv 1703.01780).
"""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pretrain.config import Config


class Ema(Config):
    """The average of the weights, which is what is validated, saved and asked as a teacher.

    At step n it keeps `min(decay, (1 + n) / (10 + n))` of itself, so that it leaves the random weights of the
    beginning soon. 0: the weights themselves, without a copy.
    """

    decay: float = Field(default=0.0, ge=0, lt=1)


class EmaModel(AveragedModel):
    """A copy of a model that follows it: parameters and buffers, both averaged; counters are copied.

    As a part of the LightningModule it is in every checkpoint. It never gets gradients, and is always in
    evaluation mode: what passes through it moves no statistics. Call `update_parameters(model)` after each
    step of the optimizer, in `LightningModule.optimizer_step`: callbacks come too late for checkpoints.

    Args:
        model: that it follows, on whatever device and in whatever memory format.
        decay: see `Ema`; with 0 it is equal to the model after each step.

    Attributes:
        module: the averaged model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=_follow(decay), use_buffers=True)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Nothing: it stays in evaluation mode."""
        return super().train(False)


def _follow(decay: float) -> Any:
    """The averaging of lists of tensors of one type; `AveragedModel` copies at the first step."""

    @torch.no_grad()
    def average(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
        if averages[0].is_floating_point():
            done = int(steps)
            torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + done) / (10 + done)))
        else:
            torch._foreach_copy_(averages, values)

    return average

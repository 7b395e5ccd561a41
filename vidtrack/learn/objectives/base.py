"""What every objective is made of, and one batch of clips as objectives see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from vidtrack.learn.clips import second_view

# A name's place seeds the random numbers of its objective: new names go to the end.
Name = Literal["anchors", "quantized", "lab", "cycle"]


def _some(weights: dict[str, float]) -> dict[str, float]:
    if not weights:
        raise ValueError(f"give one of {', '.join(get_args(Name))} a weight")
    return weights


Weights = Annotated[dict[Name, Annotated[float, Field(gt=0, allow_inf_nan=False)]], AfterValidator(_some)]
Draw = Callable[..., Tensor]  # shape to uniform random numbers
SPREAD = 0x9E3779B9  # 2^32 / golden ratio: the seeds of two objectives lie far apart


@dataclass
class Views:
    """One batch of clips on the device.

    Attributes:
        frames: float `[B, T, 3, H, H]` in 0..1, the first view.
        windows: float `[B, 4]`: where the second view lies in the first, see `warp_grid`.
        seed: the run's seed.
        step: the training step.
        part, parts: which of the equal batches of the step this is: several processes have one each, and
            gradients may be accumulated.
    """

    frames: Tensor
    windows: Tensor
    seed: int
    step: int
    part: int = 0
    parts: int = 1

    @cached_property
    def second(self) -> Tensor:
        """The second view `[B, T, 3, H, H]`; made when somebody asks for it."""
        return second_view(self.frames, self.windows)

    def draw(self, name: Name) -> Draw:
        """A new source of random numbers: the same each time for a seed, a step, an objective and a clip.

        So one more objective in a run leaves the draws of the others as they are, and it makes no difference
        in how many parts a step is taken. Called with the shape of the rest, it returns float `[B, ...]` in
        0..1 on the frames' device.
        """
        place = get_args(Name).index(name)
        # torch's generator looks at 32 bits only.
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + self.step + place * SPREAD) % 2**32
        )
        count = len(self.frames)

        def drawn(*rest: int) -> Tensor:
            whole = torch.rand(self.parts * count, *rest, generator=generator)
            return whole[self.part * count : (self.part + 1) * count].to(self.frames.device)

        return drawn


@dataclass
class Embeddings:
    """What the network makes of a batch, as far as an objective asked for it.

    Attributes:
        first: unit vectors `[B, T, D, c, c]` of all frames of the first view, with gradient; for an objective
            with pictures of its own, those of its pictures.
        second: number of a frame to unit vectors `[B, D, c, c]` of its second view, with gradient.
        targets: the same from the teacher, without gradient.
    """

    first: Tensor
    second: dict[int, Tensor]
    targets: dict[int, Tensor]


class Objective(nn.Module, ABC):
    """What the pointers must be good at. A run has one or several, each with a weight.

    An objective says which embeddings it needs, so that one pass through the network serves all objectives,
    and has a loss. What is random comes from `Views.draw`.

    Args:
        settings: the objective's own section of the config.
        stride: pixels per cell.
    """

    def __init__(self, settings: Any, stride: int) -> None:
        super().__init__()
        self.settings, self.stride = settings, stride

    def prepare(self, videos: list[np.ndarray], seed: int) -> None:
        """Take statistics of the training videos, uint8 `[T, H, W, 3]` each, before the first step.

        What it finds must be kept in buffers, so that a resumed run has it too.
        """

    def pictures(self, views: Views) -> Tensor | None:
        """Pictures `[B, T, 3, H, H]` to embed instead of the first view, in a pass of their own.

        None (the default): the first view itself, which is shared. Called without gradients, in float32.
        """
        return None

    def second_frames(self, frames: int) -> Iterable[int]:
        """Which of a clip's frames are needed in the second view with gradient; default: none."""
        return ()

    def target_frames(self, frames: int) -> Iterable[int]:
        """Which of a clip's frames are needed in the second view from the teacher; default: none."""
        return ()

    @abstractmethod
    def loss(self, views: Views, embeddings: Embeddings) -> dict[str, Tensor]:
        """`loss`, and whatever else is worth logging. Called in float32."""

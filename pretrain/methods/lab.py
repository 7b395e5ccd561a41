"""What colorization and split-brain autoencoders share: they predict colours, place by place."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.colours import TEMPERATURE, ColourBins, with_colours
from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.base import Method, full_precision
from pretrain.methods.crop import Scale
from pretrain.views import Chance, random_resized_crop

FINEST = 16  # places a side that are predicted at least, unless the images are smaller


class LabSettings(Config):
    """Settings of `LabMethod`.

    Attributes:
        scale: area of the random crop, as a share of the image.
        flip: chance of a mirrored crop.
        grid: places a side at which classes are predicted; None: a quarter of the image's side as in the
            paper on colorization, but 16 at least.
        hidden: channels of a head.
        temperature: of the annealed mean that makes a colour of a prediction.
    """

    scale: Scale = (0.5, 1.0)
    flip: Chance = 0.5
    grid: int | None = Field(default=None, ge=1)
    hidden: int = Field(default=128, ge=1)
    temperature: float = Field(default=TEMPERATURE, gt=0)


class LabMethod(Method):
    """Base of the methods that classify the colour of each place.

    Args:
        backbone, size: see `Method`.
        settings: see `LabSettings`.

    Attributes:
        bins: the classes of colours.
        grid: places a side in images of `size` pixels.

    Raises:
        InputError: more places than pixels.
    """

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        grid = min(size, max(FINEST, size // 4)) if settings.grid is None else settings.grid
        if grid > size:
            raise InputError(f"grid={grid} is more than the {size} pixels of data.size: give at most {size}.")
        self.settings, self.grid = settings, grid
        self.bins = ColourBins()

    @abstractmethod
    def colour_scores(self, images: Tensor) -> Tensor:
        """Scores of the bins `[N, Q, h, w]` for images `[N, 3, H, W]`; h and w are `places(images)`."""

    def crops(self, images: Tensor, draws: Draws) -> Tensor:
        """Random crops, some mirrored: `[N, 3, size, size]`."""
        return random_resized_crop(
            images, draws, self.size, scale=self.settings.scale, flip=self.settings.flip
        )

    def places(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of places in images of any size: as many pixels a place as in training."""
        rows, columns = (max(1, round(side * self.grid / self.size)) for side in images.shape[2:])
        return rows, columns

    @torch.no_grad()
    def colours(self, images: Tensor) -> Tensor:
        """The colours ab `[N, 2, h, w]` that images `[N, 3, H, W]` should have, coarse."""
        scores = self.colour_scores(images)
        with full_precision(scores):
            return self.bins.decode(scores, self.settings.temperature)

    @torch.no_grad()
    def colourise(self, images: Tensor) -> Tensor:
        """Colour images by their lightness.

        Args:
            images: RGB or gray `[N, 3, H, W]` in 0..1, whose own colours aren't looked at. H and W are
                multiples of the backbone's deepest stride, else colours are shifted a little.

        Returns:
            RGB `[N, 3, H, W]` in 0..1 with the lightness of `images`.
        """
        return with_colours(images, self.colours(images))


def gray(images: Tensor) -> Tensor:
    """Images `[N, 3, H, W]` without their colours, with their lightness."""
    return with_colours(images, images.new_zeros(len(images), 2, 1, 1))

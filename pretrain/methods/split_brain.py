"""Split-brain autoencoder: colours from lightness, and lightness from colours.

Zhang, Isola, Efros 2017, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction" (arXiv
1611.09842). Two networks of half the width each see one part of an image and predict the other one. Side by
side their features describe the whole image, and neither can succeed by copying its input. Both predictions
are classifications, without weights for rare classes.

What differs from the paper: two ResNets whose maps of all layers make the predictions, instead of an AlexNet
split along its channels; bins of sRGB's own gamut, 261 instead of 313; and AdamW for minutes instead of days,
on small images.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.colours import annealed_mean, coarse_lab, join
from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.hypercolumns import PlaceClassifier
from pretrain.methods.base import Views, full_precision
from pretrain.methods.lab import LabMethod, LabSettings, gray
from pretrain.pictures import Picture, sheet

LIGHTEST = 100.0  # L of white


class SplitBrainSettings(LabSettings):
    """See `LabSettings`.

    Attributes:
        levels: classes of lightness, equally wide.
    """

    levels: int = Field(default=100, ge=2)


class SplitBrain(LabMethod):
    """Classification of the colour of each place from lightness, and of its lightness from colours.

    Args:
        backbone: a `Pair`.
        settings: see `SplitBrainSettings`.
        size: side of the images in pixels.

    Raises:
        InputError: see `LabMethod`.
    """

    Settings: ClassVar[type[Config]] = SplitBrainSettings

    def __init__(self, backbone: Any, settings: Any, size: int) -> None:
        super().__init__(backbone, settings, size)
        light, colour = backbone.light, backbone.colour
        hidden = settings.hidden
        self.colour_head = PlaceClassifier(light.channels, light.strides, len(self.bins), hidden)
        self.light_head = PlaceClassifier(colour.channels, colour.strides, settings.levels, hidden)

    @classmethod
    def make_backbone(cls, make: Any, settings: Any) -> nn.Module:
        """Two networks of half the width, one for lightness and one for colours."""
        backbone: nn.Module = make(pair=True)
        return backbone

    def views(self, images: Tensor, draws: Draws) -> Views:
        """Random crops `images` `[N, 3, size, size]`, and the classes of their places.

        `bins` are those of colours, `levels` those of lightness: int64 `[N, g, g]`.
        """
        crops = self.crops(images, draws)
        lab = coarse_lab(crops, self.places(crops)).permute(0, 2, 3, 1)
        bins, _ = self.bins.nearest(lab[..., 1:])
        return {"images": crops, "bins": bins[..., 0], "levels": self.levels(lab[..., 0])}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """The sum of both cross entropies, and each with its accuracy."""
        found = {
            "colour": (self.colour_scores(views["images"]), views["bins"]),
            "light": (self.light_scores(views["images"]), views["levels"]),
        }
        logged = {}
        for name, (scores, classes) in found.items():
            with full_precision(scores):
                flat = scores.permute(0, 2, 3, 1).flatten(0, 2).float()  # [N*g*g, classes]
                logged[name] = F.cross_entropy(flat, classes.flatten())
                logged[f"{name}_accuracy"] = (flat.detach().argmax(dim=1) == classes.flatten()).float().mean()
        return {"loss": logged["colour"] + logged["light"], **logged}

    def colour_scores(self, images: Tensor) -> Tensor:
        """See `LabMethod.colour_scores`; only the lightness of `images` is seen."""
        scores: Tensor = self.colour_head(self._pair.light(images), self.places(images))
        return scores

    def light_scores(self, images: Tensor) -> Tensor:
        """Scores of the levels `[N, levels, h, w]` for images `[N, 3, H, W]`; only their ab are seen."""
        scores: Tensor = self.light_head(self._pair.colour(images), self.places(images))
        return scores

    @property
    def _pair(self) -> Any:
        return self.backbone

    def levels(self, light: Tensor) -> Tensor:
        """The classes of lightness in 0..100, int64 of the same shape."""
        count = self.settings.levels
        return (light * (count / LIGHTEST)).long().clamp(0, count - 1)

    @torch.no_grad()
    def lightness(self, images: Tensor) -> Tensor:
        """The lightness `[N, 1, h, w]` in 0..100 that images `[N, 3, H, W]` should have by their colours."""
        scores = self.light_scores(images)
        count = self.settings.levels
        middles = (torch.arange(count, device=scores.device) + 0.5) * (LIGHTEST / count)
        with full_precision(scores):
            return annealed_mean(scores, middles[:, None], self.settings.temperature)

    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Images in gray and coloured, their lightness as their colours tell it, and as they are."""
        light = F.interpolate(self.lightness(images), size=images.shape[2:], mode="bilinear")
        told = join(light, light.new_zeros(len(light), 2, *light.shape[2:]))
        parts = [gray(images), self.colourise(images), told, images]
        caption = (
            "Each image in gray, in the colours that its gray tells the method, in the gray that its colours "
            "tell the method, and as it is."
        )
        return [Picture("Split brain", sheet(torch.stack(parts, dim=1).flatten(0, 1), 8), caption)]

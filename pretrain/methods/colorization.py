"""Colorization: which colours belong to a gray image?

Zhang, Isola, Efros 2016, "Colorful Image Colorization" (arXiv 1603.08511). To say, a network has to know what
things are: grass, skin, sky. Colours are classes, the bins of `pretrain.colours`, because the average of
possible colours is gray; rare, vivid colours weigh more, because most of any image is nearly gray.

What differs from the paper: a ResNet whose maps of all layers make the prediction, instead of a plain network
of 22 convolutions, so that the backbone is the one that other methods learn; bins of sRGB's own gamut, 261
instead of 313; and AdamW for minutes instead of days, on small images.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.colours import coarse_lab, soft_cross_entropy
from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.hypercolumns import PlaceClassifier
from pretrain.methods.base import Views, full_precision
from pretrain.methods.lab import LabMethod, LabSettings, gray
from pretrain.pictures import Picture, sheet

COUNTED = 4096  # images at most whose colours are counted
PART = 256  # of them at once


class ColorizationSettings(LabSettings):
    """See `LabSettings`.

    Attributes:
        mix: share of the uniform distribution in the weights of the classes, the paper's lambda; with 1 all
            colours weigh the same.
    """

    mix: float = Field(default=0.5, gt=0, le=1)


class Colorization(LabMethod):
    """Classification of the colour of each place, from lightness; weighted by how rare colours are.

    Args:
        backbone: see `Method`; it sees lightness only.
        settings: see `ColorizationSettings`.
        size: side of the images in pixels.

    Attributes:
        weights: float `[Q]`, of each bin in the loss; taken from the training images by `prepare`.
    """

    Settings: ClassVar[type[Config]] = ColorizationSettings
    weights: Tensor

    def __init__(self, backbone: Any, settings: Any, size: int) -> None:
        super().__init__(backbone, settings, size)
        self.register_buffer("weights", torch.ones(len(self.bins)))
        self.head = PlaceClassifier(backbone.channels, backbone.strides, len(self.bins), settings.hidden)

    @classmethod
    def make_backbone(cls, make: Any, settings: Any) -> nn.Module:
        """A backbone that sees lightness."""
        backbone: nn.Module = make(input="l")
        return backbone

    def prepare(self, images: np.ndarray, seed: int) -> None:
        """Weigh the bins by the colours of the training images, of 4096 at most, evenly spread."""
        chosen = np.linspace(0, len(images) - 1, min(len(images), COUNTED)).round().astype(int)
        counts = torch.zeros(len(self.bins), device=self.weights.device)
        for part in np.array_split(chosen, -(-len(chosen) // PART)):
            pixels = torch.from_numpy(images[part]).to(counts.device).permute(0, 3, 1, 2).float().div_(255)
            counts += self.bins.count(pixels, self.places(pixels))
        self.weights.copy_(self.bins.weights(counts, self.settings.mix))

    def views(self, images: Tensor, draws: Draws) -> Views:
        """Random crops `images` `[N, 3, size, size]`; their colours, `bins` and `shares` `[N, g, g, 5]`."""
        crops = self.crops(images, draws)
        lab = coarse_lab(crops, self.places(crops)).permute(0, 2, 3, 1)
        bins, shares = self.bins.encode(lab[..., 1:])
        return {"images": crops, "bins": bins, "shares": shares}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Cross entropy with soft classes, each place weighted by its nearest bin; and the accuracy."""
        scores = self.colour_scores(views["images"]).permute(0, 2, 3, 1).float()  # [N, g, g, Q]
        nearest = views["bins"][..., 0]
        with full_precision(scores):
            losses = soft_cross_entropy(scores, views["bins"], views["shares"])  # [N, g, g]
            loss = (self.weights[nearest] * losses).mean()
            accuracy = (scores.detach().argmax(dim=-1) == nearest).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    def colour_scores(self, images: Tensor) -> Tensor:
        """See `LabMethod.colour_scores`."""
        scores: Tensor = self.head(self.backbone(images), self.places(images))
        return scores

    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Images in gray, coloured, and as they are."""
        triples = torch.stack([gray(images), self.colourise(images), images], dim=1).flatten(0, 1)
        caption = "Each image in gray, as the method sees it, in the colours that it gives, and in its own."
        return [Picture("Colorization", sheet(triples, 6), caption)]

"""How a backbone is judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pretrain.config import Config


class ProbeSettings(Config):
    """Settings of `pretrain.probe.run.probe`.

    Attributes:
        layers: "all", "last", or names.
        shares: of the labels that classifiers are trained on, 0..1.
        heads: which classifiers; "linear" chooses the layer, too.
        k, temperature: of the nearest neighbours, see `pretrain.probe.knn`.
        pool: features are averaged over pool x pool parts of the image.
        hidden: units of the hidden layer of "mlp".
        finetune: also train all weights, at each share.
        epochs, max_minutes: of each fine-tuning.
        batch: images at once when features are computed.
        embedding: also place the test images in the plane.
        seed: of the subsets and of the classifiers.
    """

    layers: Literal["all", "last"] | tuple[str, ...] = "all"
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)
    heads: tuple[Literal["linear", "mlp"], ...] = ("linear", "mlp")
    k: int = Field(default=200, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    pool: int = Field(default=1, ge=1)
    hidden: int = Field(default=512, ge=1)
    finetune: bool = False
    epochs: int = Field(default=20, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=256, ge=1)
    embedding: bool = True
    seed: int = Field(default=0, ge=0)

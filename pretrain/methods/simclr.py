"""SimCLR: which of all the other views shows the same image?

Chen, Kornblith, Norouzi, Hinton 2020, "A Simple Framework for Contrastive Learning of Visual Representations"
(arXiv 2002.05709). Of N images come 2 N views; each view has to find the other one of its image among the
2 N - 1 others. The loss sees the projected features; what is kept lies before the projection.

As in the paper: augmentation, loss, head, and negatives from all processes. Different, for batches and runs
that fit a CPU: AdamW instead of LARS, hundreds of images a step instead of thousands. Where a setting is left
to the size of the images, small ones get the paper's choice for CIFAR-10 (appendix B.9) and large ones that
for ImageNet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.config import Config
from pretrain.contrast import SMALL, Head, accuracy, blurred, matches, projection_head
from pretrain.distributed import gather, rank
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.losses import info_nce
from pretrain.methods.base import Method, Views, full_precision, pooled, width
from pretrain.pictures import Picture
from pretrain.views import Views as View
from pretrain.views import simclr_view

Share = Annotated[float, Field(gt=0, le=1)]


class SimCLRSettings(Config):
    """Settings of `SimCLR`.

    Attributes:
        head: see `pretrain.contrast.projection_head`.
        projection: dimensions in which views are compared.
        head_norm: batch norm in the mlp head; the paper's text has none, its authors' code has.
        temperature: of the softmax; None: 0.5 for images up to 64 pixels, else 0.1.
        scale: area of a crop as part of the image's, from and to.
        strength: of the colour jitter, see `pretrain.views.Views`; None: 0.5 up to 64 pixels, else 1.
        blur: chance of a blurred view; None: none up to 64 pixels, else 0.5.
        chunk: views that go through the backbone at a time, for batches larger than memory; None: all.
    """

    head: Head = "mlp"
    projection: int = Field(default=128, ge=1)
    head_norm: bool = False
    temperature: float | None = Field(default=None, gt=0)
    scale: tuple[Share, Share] = (0.08, 1.0)
    strength: float | None = Field(default=None, ge=0, le=2.5)
    blur: float | None = Field(default=None, ge=0, le=1)
    chunk: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must go from a smaller to a larger share of the image")
        return self

    def view(self, size: int) -> View:
        """How views of `size` pixels are made."""
        strength = self.strength if self.strength is not None else (0.5 if size <= SMALL else 1.0)
        return View.simclr(size, jitter=strength, scale=self.scale, **blurred(size, self.blur))


class SimCLR(Method):
    """NT-Xent between two views of each image.

    With `chunk`, gradients are cached (Gao et al. 2021, arXiv 2101.06983): the backbone runs over the views
    in chunks and keeps only their features, the loss sees the whole batch, and in the backward pass each
    chunk runs again. Memory is that of one chunk, for a third more computing. A batch norm then has the
    statistics of a chunk, which differ from those of the batch; so that they don't tell which views belong
    together, the views are dealt to the chunks at random.

    Args:
        backbone: see `Method`.
        settings: see `SimCLRSettings`.
        size: side of the images in pixels.
    """

    Settings: ClassVar[type[Config]] = SimCLRSettings
    whole_steps: ClassVar[bool] = True

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings, self.view = settings, settings.view(size)
        self.temperature = settings.temperature or (0.5 if size <= SMALL else 0.1)
        self.head = projection_head(settings.head, width(backbone), settings.projection, settings.head_norm)

    def views(self, images: Tensor, draws: Draws) -> Views:
        """`images` `[2 N, 3, size, size]`: a view of each, then the other; `order` int64 `[2 N]`, random."""
        both = [simclr_view(images, draws, self.view) for _ in range(2)]
        order = draws.uniform(2).T.flatten().argsort().to(images.device)
        return {"images": torch.cat(both), "order": order}

    def loss(self, views: Views) -> dict[str, Tensor]:
        features = self.features(views["images"], views["order"])  # [2 N, C]
        with full_precision(features):
            loss, scores, positive = nt_xent(self.head(features), self.temperature)
        return {"loss": loss, "accuracy": accuracy(scores, positive)}

    def features(self, images: Tensor, order: Tensor) -> Tensor:
        """Pooled features `[M, C]` of views `[M, 3, size, size]`, in chunks of the given order if so set."""
        chunk = self.settings.chunk
        if chunk is None or len(images) <= chunk:
            return pooled(self.backbone(images))
        # Equal parts: a rest of one view would be too small for batch norm.
        parts = images[order].tensor_split(-(-len(images) // chunk))
        done = [
            checkpoint(
                lambda part: pooled(self.backbone(part)),
                part,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), kept_statistics(self.backbone)),
            )
            for part in parts
        ]
        return torch.cat(done)[order.argsort()]

    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Two views of each image, and which one the method took for the second."""
        first, second = (simclr_view(images, draws, self.view) for _ in range(2))
        embedded = self.head(pooled(self.backbone(torch.cat([first, second]))))
        return [matches(first, second, *embedded.tensor_split(2))]


def nt_xent(embedded: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """NT-Xent (Chen et al. 2020, equation 1): views of this process find theirs among those of all.

    Args:
        embedded: float `[2 n, D]`: n views, then the other view of each, of this process.
        temperature: scores, cosines, are divided by it.

    Returns:
        The mean loss; the scores `[2 n, 2 N]` with the N images of all; the positives, int64 `[2 n]`.

    Raises:
        InputError: there is only one image.
    """
    count = len(embedded)
    keys = gather(embedded)
    if len(keys) <= 2:
        raise InputError("simclr tells images apart: give it optimizer.batch=2 or more.")
    own = torch.arange(count, device=keys.device)
    first = rank() * count
    excluded = torch.zeros(count, len(keys), dtype=torch.bool, device=keys.device)
    excluded[own, first + own] = True  # no view is compared with itself
    positive = first + own.roll(count // 2)
    loss, scores = info_nce(embedded, keys, positive, "cosine", temperature, excluded)
    return loss, scores, positive


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms move copies of their running statistics meanwhile: a chunk that runs again counts once."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    for norm, buffers in kept:
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in kept:
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)

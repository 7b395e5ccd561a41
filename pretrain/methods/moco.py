"""MoCo: which of many keys, most of them from earlier batches, is the other view of this image?

He, Fan, Wu, Xie, Girshick 2020, "Momentum Contrast for Unsupervised Visual Representation Learning" (arXiv
1911.05722; version 1), and Chen, Fan, Girshick, He 2020, "Improved Baselines with Momentum Contrastive
Learning" (arXiv 2003.04297; version 2: MLP head, temperature 0.2, stronger augmentation). Keys wait in a
queue, so that their number doesn't depend on the batch; they come from an encoder that slowly follows the one
that is learned, so that old keys agree with new ones.

As in the papers: loss, queue, momentum rule, heads, augmentation, shuffled batch norm. Different, for runs of
a thousand steps and small images: AdamW instead of SGD, a queue of 4096 instead of 65536 keys, momentum 0.99
instead of 0.999, and no blur up to 64 pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.contrast import Head, accuracy, blurred, matches, projection_head
from pretrain.distributed import gather, rank
from pretrain.draws import Draws
from pretrain.losses import info_nce
from pretrain.methods.base import Method, Views, full_precision, pooled, width
from pretrain.pictures import Picture
from pretrain.split_norm import SplitBatchNorm2d, split_batch_norm
from pretrain.views import Views as View
from pretrain.views import simclr_view

Version = Literal[1, 2]
HEADS: dict[Version, Head] = {1: "linear", 2: "mlp"}
TEMPERATURES: dict[Version, float] = {1: 0.07, 2: 0.2}


class MoCoSettings(Config):
    """Settings of `MoCo`. What is None is as in the paper of `version`.

    Attributes:
        version: 1 or 2.
        head: see `pretrain.contrast.projection_head`.
        projection: dimensions in which views are compared.
        temperature: of the softmax.
        augmentation: that of version 1 or of version 2.
        blur: chance of a blurred view; None: that of the augmentation, none for images up to 64 pixels.
        queue: number of keys of earlier batches.
        momentum: what the key encoder keeps of itself at each step. It is about `1 / (1 - momentum)` steps
            behind: the paper's 0.999 suits its million steps; in a run of a thousand, keys would for the
            most part come from an untrained network. 0.99 is behind by a hundred.
        batch_norm: "shuffle", the paper's: statistics of parts of the batch, keys are dealt to the parts in
            another order than queries; "split": in the same order, to see how the statistics then betray the
            positive key (section 3.3 of version 1); "sync": statistics of the whole batch of all processes.
        splits: number of parts in each process; the paper has one on each of 8 GPUs.
    """

    version: Version = 2
    head: Head | None = None
    projection: int = Field(default=128, ge=1)
    temperature: float | None = Field(default=None, gt=0)
    augmentation: Version | None = None
    blur: float | None = Field(default=None, ge=0, le=1)
    queue: int = Field(default=4096, ge=1)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    batch_norm: Literal["shuffle", "split", "sync"] = "shuffle"
    splits: int = Field(default=8, ge=1)

    def view(self, size: int) -> View:
        """How views of `size` pixels are made."""
        make = View.moco_v1 if (self.augmentation or self.version) == 1 else View.moco_v2
        return make(size, **blurred(size, self.blur))


class MoCo(Method):
    """InfoNCE of queries with the key of their image and a queue of keys of other images.

    Args:
        backbone: see `Method`; its batch norms become split ones unless `batch_norm` is "sync".
        settings: see `MoCoSettings`.
        size: side of the images in pixels.

    Attributes:
        key_backbone, key_head: the key encoder. It gets no gradient. Its parameters follow by the momentum
            rule; the running statistics of its batch norms don't, they are of the keys that it has seen.
        queue: unit vectors `[queue, D]`, random at first; the oldest is at `pointer`.
    """

    Settings: ClassVar[type[Config]] = MoCoSettings
    whole_steps: ClassVar[bool] = True
    queue: Tensor
    pointer: Tensor

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings, self.view = settings, settings.view(size)
        self.temperature = settings.temperature or TEMPERATURES[settings.version]
        if settings.batch_norm != "sync":
            split_batch_norm(backbone, settings.splits)
        normed = any(isinstance(module, SplitBatchNorm2d) for module in backbone.modules())
        self.shuffled = normed and settings.batch_norm == "shuffle"
        head = settings.head or HEADS[settings.version]
        features = width(backbone)
        self.head = projection_head(head, features, settings.projection)
        self.key_backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        depth = features if head == "none" else settings.projection
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, depth), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.fresh: Tensor | None = None  # keys of the step that is being made

    def views(self, images: Tensor, draws: Draws) -> Views:
        """`queries` and `keys` `[N, 3, size, size]`; `order` int64 `[world * N]`, in which keys are dealt."""
        queries, keys = (simclr_view(images, draws, self.view) for _ in range(2))
        return {"queries": queries, "keys": keys, "order": draws.batch_order().to(images.device)}

    def loss(self, views: Views) -> dict[str, Tensor]:
        features = pooled(self.backbone(views["queries"]))  # [N, C]
        keys = self.keys(views["keys"], views["order"])  # [world * N, D]
        with full_precision(features):
            queries = self.head(features)
            own = keys[rank() * len(queries) : (rank() + 1) * len(queries)]
            loss, scores = queue_loss(queries, own, self.queue, self.temperature)
        if self.training and torch.is_grad_enabled():  # no step follows otherwise
            self.fresh = keys
        positive = torch.arange(len(queries), device=scores.device)
        return {"loss": loss, "accuracy": accuracy(scores, positive)}

    @torch.no_grad()
    def keys(self, images: Tensor, order: Tensor) -> Tensor:
        """Unit vectors `[world * N, D]`: the keys of all processes; `images` are those of this one."""
        if self.shuffled:
            dealt = order[rank() * len(images) : (rank() + 1) * len(images)]
            images = gather(images)[dealt]
        features = pooled(self.key_backbone(images))
        with full_precision(features):
            keys = gather(F.normalize(self.key_head(features), dim=1))
        return keys[order.argsort()] if self.shuffled else keys

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Move the key encoder (equation 2 of version 1); the step's keys take the place of the oldest."""
        for query, key in self.pairs():
            key.lerp_(query, 1 - self.settings.momentum)
        if self.fresh is not None:
            self.enqueue(self.fresh)
            self.fresh = None

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The parameters of the query encoder, each with that of the key encoder."""
        yield from zip(self.backbone.parameters(), self.key_backbone.parameters(), strict=True)
        yield from zip(self.head.parameters(), self.key_head.parameters(), strict=True)

    def enqueue(self, keys: Tensor) -> None:
        """First in, first out; of more keys than fit only the last ones stay."""
        places = self.pointer + torch.arange(len(keys), device=keys.device)
        kept = slice(max(0, len(keys) - len(self.queue)), None)
        self.queue[places[kept] % len(self.queue)] = keys[kept]
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))

    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Two views of each image, and which of the keys the method took for that of the first."""
        first, second = (simclr_view(images, draws, self.view) for _ in range(2))
        queries = self.head(pooled(self.backbone(first)))
        keys = self.key_head(pooled(self.key_backbone(second)))
        return [matches(first, second, queries, keys)]


def queue_loss(queries: Tensor, own: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Equation 1 of version 1: the positive is the query's own key, the negatives are those of the queue.

    Args:
        queries: float `[n, D]`.
        own: the key of each query, `[n, D]`.
        queue: `[K, D]`.
        temperature: scores, cosines, are divided by it.

    Returns:
        The mean loss, and the scores `[n, n + K]`: the positives are on the diagonal, other keys of the
        batch don't take part.
    """
    count = len(queries)
    excluded = torch.zeros(count, count + len(queue), dtype=torch.bool, device=queries.device)
    excluded[:, :count] = ~torch.eye(count, dtype=torch.bool, device=queries.device)
    positive = torch.arange(count, device=queries.device)
    return info_nce(queries, torch.cat([own, queue]), positive, "cosine", temperature, excluded)

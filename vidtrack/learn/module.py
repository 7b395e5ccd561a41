"""One step of `vidtrack train`: a batch of clips in, the weighted loss of the run's objectives out."""

from __future__ import annotations

from typing import Any, Self

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from pretrain.distributed import rank, sync_batch_norm, world_size
from pretrain.ema import EmaModel
from pretrain.engine import make_optimizer
from vidtrack.learn.clips import to_float
from vidtrack.learn.objectives import OBJECTIVES
from vidtrack.learn.objectives.base import Views
from vidtrack.learn.objectives.passes import weighted_losses
from vidtrack.learn.settings import TrackConfig
from vidtrack.learn.start import read_start
from vidtrack.learn.transfer import frozen_modules, rate_groups
from vidtrack.model.colorizer import VideoColorizer


class ColorizerTraining(L.LightningModule):
    """One step of the weighted objectives on a batch of clips.

    In a run of several processes, batch norms take their statistics over all of them.

    Args:
        config: the run's config.

    Attributes:
        model: what is learned.
        began_from: what the tracker that it goes on from says of its own training; None: there is none.
        objectives: those of `config.objectives`, by name.
        average: of the model's weights, see `pretrain.ema.Ema`; None without one.

    Raises:
        InputError: the backbone or tracker can't be had, or has fewer stages than are to be frozen.
    """

    def __init__(self, config: TrackConfig) -> None:
        super().__init__()
        self.config = config
        start = None if config.tracker is None else read_start(config.tracker, config.model)
        self.began_from = None if start is None else start.training
        self.model = VideoColorizer(config.model) if start is None else start.model
        if world_size() > 1:
            sync_batch_norm(self.model)
        self.frozen = frozen_modules(self.model, config.transfer)
        self.model.to(memory_format=torch.channels_last)
        self.average = EmaModel(self.model, config.ema.decay) if config.ema.decay else None
        self.objectives: Any = nn.ModuleDict(
            {
                name: kind(getattr(config, name), self.model.stride)
                for name, kind in OBJECTIVES.items()
                if name in config.objectives
            }
        )
        self.train()  # Lightning leaves modes as they are

    def prepare(self, videos: list[np.ndarray]) -> None:
        """Let the objectives take statistics of the videos, before the first step; checkpoints keep them."""
        for objective in self.objectives.values():
            objective.prepare(videos, self.config.seed)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but frozen stages keep the statistics of their batch norms."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        frames, windows = batch
        accumulate = self.config.optimizer.accumulate
        part, parts = rank() * accumulate + batch_idx % accumulate, world_size() * accumulate
        views = Views(to_float(frames), windows, self.config.seed, self.global_step, part, parts)
        losses = weighted_losses(self.model, self.target, self.objectives, self.config.objectives, views)
        for name, value in losses.items():
            self.log(name, value, batch_size=len(frames))
        return losses["loss"]

    def target(self, images: Tensor) -> Tensor:
        """The teacher of the objectives that have one: images to unit embeddings, as the model does."""
        embeddings: Tensor = (self.model if self.average is None else self.average)(images)
        return embeddings

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def configure_optimizers(self) -> Any:
        settings = self.config.optimizer
        groups = rate_groups(self, self.model, self.config.transfer, settings.learning_rate)
        return make_optimizer(self, settings, groups)

    def best(self) -> VideoColorizer:
        """What a tracker is made of: the model, or the average of its weights."""
        chosen: Any = self.model if self.average is None else self.average.module
        return chosen

"""From a pretrained backbone to a tracker: what stays as it is, and what learns slower than the rest."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from pretrain.config import Config
from pretrain.errors import InputError
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.stages import stages


class Transfer(Config):
    """How a backbone goes on learning; see `vidtrack.model.stages.stages` for what its stages are.

    The first `freeze` stages stay as they are, with the statistics of their batch norms (-1: all, so that
    only the head learns). Each stage learns at `rate_decay` times the rate of the stage after it, the head at
    the full rate (layer-wise decay: Howard & Ruder 2018, arXiv 1801.06146).
    """

    freeze: int = Field(default=0, ge=-1)
    rate_decay: float = Field(default=1.0, gt=0, le=1)


def frozen_modules(model: VideoColorizer, settings: Transfer) -> list[nn.Module]:
    """Turn the gradients of the frozen stages off; returns what must be kept in evaluation mode.

    Raises:
        InputError: there are fewer stages.
    """
    if settings.freeze == 0:
        return []
    found = stages(model.backbone)
    count = len(found) if settings.freeze == -1 else settings.freeze
    if count > len(found):
        raise InputError(
            f"transfer.freeze={count}: {model.settings.backbone} has {len(found)} stages; -1 freezes all."
        )
    for stage in found[:count]:
        for parameter in stage.parameters:
            parameter.requires_grad_(False)
    return [module for stage in found[:count] for module in stage.modules]


def rate_groups(
    root: nn.Module, model: VideoColorizer, settings: Transfer, learning_rate: float
) -> list[dict[str, Any]] | None:
    """Groups of parameters with their learning rates, for `pretrain.engine.make_optimizer`; None: all alike.

    Args:
        root: everything that is trained; what does not belong to the backbone has the full rate.
        model: the part of it with the backbone.
        settings: see `Transfer`.
        learning_rate: the full rate.
    """
    if settings.rate_decay == 1:
        return None
    found = stages(model.backbone)
    groups = [
        {"params": stage.parameters, "lr": learning_rate * settings.rate_decay ** (len(found) - number)}
        for number, stage in enumerate(found)
    ]
    known = {id(parameter) for stage in found for parameter in stage.parameters}
    return [*groups, {"params": [p for p in root.parameters() if id(p) not in known]}]

"""From a batch of clips to the weighted sum of the objectives, with as few passes as they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.methods.base import full_precision
from vidtrack.learn.objectives.base import Embeddings, Name, Objective, Views

Network = Callable[[Tensor], Tensor]


def weighted_losses(
    model: nn.Module,
    target: Network,
    objectives: Mapping[Name, Objective],
    weights: Mapping[Name, float],
    views: Views,
) -> dict[str, Tensor]:
    """All objectives on one batch. Called under the run's autocast.

    What nobody asks for is not computed. An objective with pictures of its own adds a pass for them.

    Args:
        model: images `[N, 3, H, H]` in 0..1 to unit vectors `[N, D, c, c]`.
        target: the teacher, called like the model: the model itself, or an average of it over the steps.
        objectives: those of the run.
        weights: of each objective, above 0.
        views: the batch.

    Returns:
        `loss`, the weighted sum; and what each objective gives, as `NAME/loss` and so on.
    """
    with torch.no_grad(), full_precision(views.frames):
        altered = {name: objective.pictures(views) for name, objective in objectives.items()}
    unaltered = any(pictures is None for pictures in altered.values())
    shared = _shared(model, target, list(objectives.values()), unaltered, views)
    losses: dict[str, Tensor] = {}
    total = views.frames.new_zeros(())
    for name, objective in objectives.items():
        embeddings, pictures = shared, altered[name]
        if pictures is not None:
            with kept_statistics(model) if unaltered else nullcontext():
                own = _embed(model, pictures.flatten(0, 1))
            first = own.unflatten(0, pictures.shape[:2])
            embeddings = Embeddings(first, shared.second, shared.targets)
        with full_precision(views.frames):
            found = objective.loss(views, embeddings)
        total = total + weights[name] * found["loss"]
        losses |= {f"{name}/{key}": value.detach() for key, value in found.items()}
    return {"loss": total, **losses}


def _shared(
    model: nn.Module, target: Network, objectives: list[Objective], unaltered: bool, views: Views
) -> Embeddings:
    """The embeddings that objectives share: one pass with gradient and one of the teacher, at most.

    The second view is in the pass of the first, so that both have the same batch statistics.
    """
    batch, count = views.frames.shape[:2]
    second = sorted({t for objective in objectives for t in objective.second_frames(count)})
    fixed = sorted({t for objective in objectives for t in objective.target_frames(count)})
    parts = [views.frames.flatten(0, 1)] if unaltered else []
    if second:
        parts.append(views.second[:, second].flatten(0, 1))
    shared = Embeddings(views.frames.new_zeros(0), {}, {})
    if parts:
        found = _embed(model, torch.cat(parts))
        if unaltered:
            shared.first = found[: batch * count].unflatten(0, (batch, count))
        shared.second = _by_frame(found[len(found) - batch * len(second) :], second)
    if fixed:
        with torch.no_grad():
            shared.targets = _by_frame(_embed(target, views.second[:, fixed].flatten(0, 1)), fixed)
    return shared


def _embed(network: Network, images: Tensor) -> Tensor:
    return network(images.contiguous(memory_format=torch.channels_last))


def _by_frame(found: Tensor, numbers: list[int]) -> dict[int, Tensor]:
    """`[B * len(numbers), D, c, c]` to `[B, D, c, c]` of each numbered frame."""
    if not numbers:
        return {}
    return dict(zip(numbers, found.unflatten(0, (-1, len(numbers))).unbind(dim=1), strict=True))


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms work as ever in training, but what they keep for evaluation stays as it is.

    The tracker sees whole pictures, not those that an objective has altered: their statistics would be
    wrong for it.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

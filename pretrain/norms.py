"""Other batch norms in the place of a network's own, without a trace in what it computes or is called."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d)
WITH_ACTIVATION = "BatchNormAct2d"  # of timm: a batch norm that drops and activates, too
PARTS = ("drop", "act")  # in this order


def is_batch_norm(module: nn.Module, kinds: tuple[type[nn.Module], ...] = PLAIN) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a module is one that can be replaced: other subclasses may do anything."""
    return type(module) in kinds or (
        isinstance(module, nn.BatchNorm2d) and type(module).__name__ == WITH_ACTIVATION
    )


def take_over(made: N, replaced: nn.Module) -> N:
    """Give a new batch norm what the replaced one has: parameters, statistics, mode, parts for `after`."""
    for key, value in [*replaced.named_parameters(recurse=False), *replaced.named_buffers(recurse=False)]:
        setattr(made, key, value)
    for name in PARTS:
        part = replaced._modules.get(name)
        if part is not None:
            made.add_module(name, part)
    return made.train(replaced.training)


def after(norm: nn.Module, x: Tensor) -> Tensor:
    """What a batch norm with parts does after normalising."""
    for name in PARTS:
        part = norm._modules.get(name)
        if part is not None:
            x = part(x)
    return x

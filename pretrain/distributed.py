"""What several processes of one run share: gathered tensors with gradients, and batch norm over all of them.

PyTorch's own SyncBatchNorm refuses the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pretrain.norms import after, is_batch_norm, take_over

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if world_size() > 1 else 0


def begin(device: torch.device) -> None:
    """Join the processes that torchrun (or SLURM through Lightning) started, if there are several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":  # objects are sent by way of the current device
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def first_alone(work: Callable[[], T]) -> T:
    """Let the first process do its work before the others do theirs: folders are made once.

    Raises:
        Whatever the work raises, in every process.
    """
    if world_size() == 1:
        return work()
    failed: list[Any] = [None]
    result: Any = None
    if rank() == 0:
        try:
            result = work()
        except Exception as error:
            failed[0] = error
    dist.broadcast_object_list(failed)
    if failed[0] is not None:
        raise failed[0]
    return result if rank() == 0 else work()


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, `[n, ...]` to `[world * n, ...]`; gradients flow back to each process."""
    if world_size() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)
    return gathered


class _Gather(torch.autograd.Function):
    """`torch.distributed.nn.all_gather` does this, too, and is deprecated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # each process has a loss of its own, which all the rows are part of
        return total.chunk(world_size())[rank()]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) whose statistics are those of all processes.

    Every process must hold equally many values.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected [N, C] or [N, C, H, W], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training or world_size() == 1:
            return after(self, super().forward(input))
        x = input.float()
        axes = [0] if x.dim() == 2 else [0, 2, 3]
        total = x.numel() // x.shape[1] * world_size()
        # Not from the sums of squares, in which float32 loses the variance of values far from zero.
        variances, means = gather(torch.stack(torch.var_mean(x, axes, correction=0))[None]).unbind(1)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                rate = self.momentum if self.momentum is not None else 0.1
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(variance * total / max(1, total - 1), rate)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
        shape = (1, -1) + (1,) * (x.dim() - 2)
        x = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return after(self, x.to(input.dtype))


def sync_batch_norm(module: M) -> M:
    """Let every batch norm of a module take its statistics over all processes; parameters are kept.

    Modules marked with `own_statistics = True` are left alone.
    """
    for name, child in module.named_children():
        if getattr(child, "own_statistics", False):
            continue
        if is_batch_norm(child):
            synced = SyncBatchNorm2d(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            setattr(module, name, take_over(synced, child))
        else:
            sync_batch_norm(child)
    return module


def mean_metrics(batches: list[dict[str, Tensor]], device: torch.device) -> dict[str, float]:
    """The mean of each metric over the batches of a step, those of all processes.

    Args:
        batches: the metrics of each batch of this process, single numbers.
        device: of the run, where tensors can be exchanged.
    """
    names = list(batches[0]) if batches else []
    if not names:
        return {}
    values = torch.stack([torch.stack([of[name].float().to(device) for name in names]) for of in batches])
    mean = values.mean(dim=0)  # [metrics]
    if world_size() > 1:
        dist.all_reduce(mean)
    return dict(zip(names, (mean / world_size()).tolist(), strict=True))

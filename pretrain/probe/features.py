"""Frozen features: the pooled feature maps of a backbone for a set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.device import fast_dtype
from pretrain.errors import InputError
from pretrain.images import ImageSet

Progress = Callable[[int, int], None]


def extract(
    backbone: nn.Module,
    images: np.ndarray | ImageSet,
    device: torch.device | str = "cpu",
    batch: int = 256,
    layers: Sequence[str] | None = None,
    pool: int = 1,
    size: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Features of images: each layer's map, averaged over `pool` x `pool` equal parts of the image.

    The backbone is moved to the device and runs in evaluation mode; afterwards each of its modules is in the
    mode that it was in.

    Args:
        backbone: see `pretrain.backbones`.
        images: uint8 `[N, S, S, 3]` RGB, or a set of them.
        device: where to compute, in bfloat16 where `pretrain.device.fast_dtype` says so.
        batch: images at once.
        layers: names of the wanted layers; None: all.
        pool: parts of each side.
        size: the images are resized to this side first; None: as they are.
        progress: called with the number of images done and of all.

    Returns:
        By layer, from shallow to deep: float32 `[N, C * pool * pool]` on the CPU.

    Raises:
        InputError: an unknown layer, or features that are not finite.
    """
    pixels = images.images if isinstance(images, ImageSet) else images
    names = choose_layers(backbone, layers)
    device = torch.device(device)
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluating(backbone, device):
        for start in range(0, len(pixels), batch):
            maps = feature_maps(backbone, to_input(pixels[start : start + batch], device, size))
            for name in names:
                pooled = F.adaptive_avg_pool2d(maps[name].float(), pool)
                parts[name].append(pooled.flatten(1).cpu())
            if progress is not None:
                progress(min(start + batch, len(pixels)), len(pixels))
    features = {name: torch.cat(found) for name, found in parts.items()}
    for name, values in features.items():
        require_finite(name, values)
    return features


def choose_layers(backbone: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """The names of `layers`, from shallow to deep; None: all that the backbone has.

    Raises:
        InputError: the backbone has no such layer.
    """
    there = list(channels_of(backbone))
    if layers is None:
        return there
    for name in layers:
        if name not in there:
            raise InputError(f"the backbone has no layer {name!r}: choose from {', '.join(there)}.")
    return [name for name in there if name in layers]


def channels_of(backbone: nn.Module) -> dict[str, int]:
    """Number of channels of each layer, from shallow to deep."""
    channels: Any = backbone.channels
    return dict(channels)


def to_input(images: np.ndarray, device: torch.device, size: int | None = None) -> Tensor:
    """Uint8 `[N, H, W, 3]` to float `[N, 3, H, W]` in 0..1 on the device, resized to a square of `size`."""
    # As channels-last, which is the order that the bytes are in already.
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
    if size is not None and tuple(x.shape[-2:]) != (size, size):
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return x.contiguous(memory_format=torch.channels_last)


def feature_maps(backbone: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The backbone's maps, computed in the fastest precision of the device."""
    dtype = fast_dtype(images.device)
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        maps: dict[str, Tensor] = backbone(images)
    return maps


@contextmanager
def evaluating(backbone: nn.Module, device: torch.device) -> Iterator[None]:
    """Context manager: evaluation mode without gradients; afterwards each module is in its mode of before."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.to(device).eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def require_finite(layer: str, values: Tensor) -> None:
    """Raise `InputError` if a feature is infinite or not a number: no classifier can use it."""
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            f"{layer} of the backbone gives features that are not finite: its weights are broken, "
            "train it again with a lower learning rate."
        )

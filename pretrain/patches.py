"""Patches of images: cut out of a batch at once, without what would tell where they come from."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RIGHT, WRONG = (0.1, 0.6, 0.2), (0.8, 0.1, 0.1)  # frames of answers in pictures: green, red
FLAT = 1 / 255  # a standard deviation below one gray level is noise, not to be blown up


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Squares out of images, by copying pixels: `[N, P, C, side, side]`.

    Args:
        images: `[N, C, H, W]`.
        top, left: int64 `[N, P]`, or `[N, P, C]` with a place of its own for each channel; the squares must
            lie in the images.
        side: in pixels.
    """
    count, channels = images.shape[:2]
    if top.ndim == 2:
        top, left = top[..., None], left[..., None]
    windows = images.unfold(2, side, 1).unfold(3, side, 1)  # [N, C, H - side + 1, W - side + 1, side, side]
    image = torch.arange(count, device=images.device)[:, None, None]
    channel = torch.arange(channels, device=images.device)
    return windows[image, channel, top, left]


def normalise(patches: Tensor) -> Tensor:
    """Give each channel of each patch `[..., C, H, W]` mean 0 and standard deviation 1; flat ones are 0."""
    centred = patches - patches.mean(dim=(-2, -1), keepdim=True)
    return centred / patches.std(dim=(-2, -1), keepdim=True, correction=0).clamp(min=FLAT)


def as_input(backbone: Any, normalised: Tensor) -> Tensor:
    """What a backbone must be given so that its first layer gets `normalised`, `[..., 3, H, W]`."""
    images: Tensor = normalised * backbone.std + backbone.mean
    return images


def arrange(patches: Tensor, gap: int, white: float = 1.0) -> Tensor:
    """Nine patches `[N, 9, C, t, t]`, row by row, as images of 3 x 3 patches with white lines between."""
    lined = F.pad(patches, (0, gap, 0, gap), value=white).unflatten(
        1, (3, 3)
    )  # [N, 3, 3, C, t + gap, t + gap]
    whole = lined.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    side = whole.shape[-1] - gap
    return whole[..., :side, :side]


def frame(image: Tensor, colour: tuple[float, float, float], width: int = 2) -> Tensor:
    """A copy of `[3, H, W]` with a coloured frame inside its border."""
    framed = image.new_tensor(colour)[:, None, None].expand_as(image).clone()
    inside = (slice(None), slice(width, -width), slice(width, -width))
    framed[inside] = image[inside]
    return framed

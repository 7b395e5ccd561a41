"""What a backbone sees of an image: RGB, lightness, the colours ab of Lab, or all three of Lab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Input = Literal["rgb", "l", "ab", "lab"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
AB_RANGE = 110.0  # a and b of sRGB colours lie within about -110 .. 110
LIGHTNESS = ((0.5,), (0.25,))
COLOUR = ((0.0, 0.0), (0.15, 0.15))  # the spread of a and b in natural images, in units of their range
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "rgb": (IMAGENET_MEAN, IMAGENET_STD),
    "l": LIGHTNESS,
    "ab": COLOUR,
    "lab": (LIGHTNESS[0] + COLOUR[0], LIGHTNESS[1] + COLOUR[1]),
}


def channels_of(input: Input) -> int:
    """Number of channels."""
    return len(STATISTICS[input][0])


def convert(images: Tensor, input: Input) -> Tensor:
    """RGB `[N, 3, H, W]` in 0..1 to `[N, C, H, W]`: L in 0..1, a and b in about -1..1."""
    if input == "rgb":
        return images
    from kornia.color import rgb_to_lab  # heavy, and most backbones take RGB

    with torch.autocast(images.device.type, enabled=False):
        lab = rgb_to_lab(images.float())
    light, colour = lab[:, :1] / 100, lab[:, 1:] / AB_RANGE
    chosen = {"l": light, "ab": colour}.get(input)
    return (torch.cat([light, colour], dim=1) if chosen is None else chosen).to(images.dtype)


class ImageInput(nn.Module):
    """Base of backbones: what of an RGB image they see, and how it is normalised.

    Args:
        input: see `convert`.
        mean, std: of the channels; None: the usual ones of the input.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, input: Input, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.input = input
        usual = STATISTICS[input]
        for name, given, default in (("mean", mean, usual[0]), ("std", std, usual[1])):
            value = torch.tensor(default if given is None else given, dtype=torch.float32)
            self.register_buffer(name, value.view(-1, 1, 1), persistent=False)

    def convert(self, images: Tensor) -> Tensor:
        """RGB `[N, 3, H, W]` in 0..1 to this backbone's channels, not yet normalised."""
        return convert(images, self.input)

    def normalised(self, images: Tensor) -> Tensor:
        """RGB `[N, 3, H, W]` in 0..1 to what the first layer gets."""
        return (self.convert(images) - self.mean) / self.std

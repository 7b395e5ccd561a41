"""The two networks that only inpainting needs: a decoder that fills holes, and a judge of what it fills in.

Both after Pathak et al. 2016 (arXiv 1604.07379) and DCGAN (Radford et al. 2016, arXiv 1511.06434).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pretrain.errors import InputError

PLACES = 256  # of the deepest map at most: the channel-wise layer has their square of weights a channel
NARROWEST = 32  # channels of the decoder before the last layer
SMALLEST = 4  # side of the map that the discriminator's last layer sees


class ChannelWise(nn.Module):
    """A fully-connected layer within each channel: every place of a map sees all places of the same channel.

    For C channels of P places it has C * P^2 weights where a full layer has C^2 * P^2 (section 3.1 of the
    paper). A 1x1 convolution must follow, for the channels to see each other.

    Args:
        channels: C.
        places: P.
    """

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        bound = places**-0.5
        self.weight = nn.Parameter(torch.empty(channels, places, places).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels, 1, places))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps `[N, C, h, w]` with h * w = P to the same shape."""
        by_channel = maps.flatten(2).transpose(0, 1)  # [C, N, P]
        mixed = torch.baddbmm(self.bias, by_channel, self.weight)
        return mixed.transpose(0, 1).unflatten(2, maps.shape[2:])


class Decoder(nn.Module):
    """From the deepest feature map to an image: a channel-wise layer, then up-convolutions to the full side.

    Args:
        channels, stride: of the map.
        size: side of the image in pixels; the map has size / stride cells a side, rounded up.
        width: channels after the channel-wise layer; each up-convolution halves them, down to 32.

    Raises:
        InputError: a stride that is no power of two, or a map of more than `PLACES` places.
    """

    def __init__(self, channels: int, stride: int, size: int, width: int) -> None:
        super().__init__()
        side, doublings = math.ceil(size / stride), round(math.log2(stride))
        if 2**doublings != stride:
            raise InputError(
                f"inpainting doubles the deepest map up to the image, and a stride of {stride} pixels is no "
                "power of two: choose another backbone.arch or backbone.patch."
            )
        if side * side > PLACES:
            raise InputError(
                f"with data.size={size} the deepest map has {side} x {side} places, and inpainting connects "
                f"all of them, {PLACES} at most: lower data.size, or take a backbone with a larger stride."
            )
        self.size = size
        parts: list[nn.Module] = [
            ChannelWise(channels, side * side),
            nn.Conv2d(channels, width, 1, bias=False),
        ]
        for _ in range(doublings - 1):
            narrower = max(min(NARROWEST, width), width // 2)
            parts += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), _doubled(width, narrower, bias=False)]
            width = narrower
        last = _doubled(width, 3) if doublings else nn.Conv2d(width, 3, 3, padding=1)
        self.layers = nn.Sequential(*parts, nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)
        _initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        """The deepest map `[N, C, h, w]` to images, float32 `[N, 3, size, size]` in -1..1."""
        images = self.layers(maps)[..., : self.size, : self.size]
        return images.float().tanh()


class Discriminator(nn.Module):
    """Is it an image or a filling? Strided convolutions down to 4x4 places, then one score.

    Args:
        size: side in pixels of what it sees.
        width: channels of the first layer; the next ones have twice as many each, up to eight times.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inputs, outputs, most = 3, width, 8 * width
        while size // 2 >= SMALLEST:
            parts.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=inputs == 3))
            if inputs != 3:
                parts.append(nn.BatchNorm2d(outputs))
            parts.append(nn.LeakyReLU(0.2, inplace=True))
            inputs, outputs, size = outputs, min(most, 2 * outputs), size // 2
        self.layers = nn.Sequential(*parts, nn.Conv2d(inputs, 1, size))
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images `[N, 3, size, size]` in -1..1 to float32 scores `[N]`: the log odds of being real."""
        scores: Tensor = self.layers(images).float().flatten()
        return scores


def _doubled(inputs: int, outputs: int, bias: bool = True) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)


def _initialise(module: nn.Module) -> None:
    """Convolutions as in DCGAN: normal with a standard deviation of 0.02."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)

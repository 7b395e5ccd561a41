"""A ResNet trunk in 8-bit integers: twice as fast as bfloat16 on processors with VNNI or AMX instructions.

Weights are quantised per output channel, activations per tensor, with ranges that the network shows on a few
natural pictures ("post-training static quantisation", Jacob et al. 2018, arXiv 1712.05877). The unit vectors
that come out are as close to float32 as those of bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.backbones import ResNet

BORDER = 3  # pixels that the first convolution, 7x7, looks beyond the image
ZERO = 128  # the code of zero where values have both signs
EDGES = {"zeros": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101, "replicate": cv2.BORDER_REPLICATE}


def has_int8() -> bool:
    """Whether this processor and this torch can compute convolutions in 8-bit integers faster."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_vnni") or capabilities.get("amx_int8")) and hasattr(
        torch.ops.onednn, "qconv2d_pointwise"
    )


def fits_int8(trunk: Any) -> bool:
    """Whether `Int8ResNet` can take the place of a trunk."""
    return isinstance(trunk, ResNet) and trunk.input == "rgb" and trunk.stem_kind == "standard"


class Int8ResNet:
    """A frozen trunk up to layer3, batch norm folded, in 8-bit integers.

    Args:
        trunk: RGB, batch norm already folded into the convolutions; it is not changed.
        pictures: uint8 `[H, W, 3]` RGB; they decide the range of each activation.
    """

    def __init__(self, trunk: ResNet, pictures: Iterable[np.ndarray]) -> None:
        ranges = _ranges(trunk, pictures)
        # What is zero after normalising:
        self.padding = trunk.padding
        self.colour = [round(255 * float(m)) for m in trunk.mean.flatten()]
        self.first = _first(trunk, ranges["stem"] / 255)
        self.blocks = []
        scale = ranges["stem"] / 255
        last: Any = trunk.get_submodule("layer3")[-1]  # type: ignore[index]
        for name in trunk.channels:
            for number, block in enumerate(getattr(trunk, name)):
                key = f"{name}.{number}"
                out = None if block is last else ranges[key] / 255
                self.blocks.append(_Block(block, scale, key, ranges, out))
                scale = out or 1.0

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Tensor:
        """RGB uint8 `[H, W, 3]`, H and W multiples of 8, to layer3 as bfloat16 `[1, C, H/8, W/8]`."""
        image = cv2.copyMakeBorder(
            image, BORDER, BORDER, BORDER, BORDER, EDGES[self.padding], value=self.colour
        )
        x = torch.from_numpy(image).permute(2, 0, 1)[None]  # [1, 3, H+6, W+6], channels last as it lies
        x = _max_pool(self.first(x))
        for block in self.blocks:
            x = block(x)
        return x


class _Convolution:
    """One convolution on codes of 8 bits: `value = scale * (code - zero)`."""

    def __init__(
        self,
        conv: nn.Conv2d,
        scale: float,
        out: float | None,
        relu: bool,
        zero_out: int = 0,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        padding: Any = None,
    ) -> None:
        weight = (conv.weight if weight is None else weight).detach().float()
        bias = conv.bias if bias is None else bias
        self.scales = (weight.abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-12)
        codes = (weight / self.scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        padding = list(conv.padding if padding is None else padding)
        self.edge = None
        if conv.padding_mode != "zeros" and any(padding):
            self.edge, padding = (conv.padding_mode, padding), [0, 0]
        self.geometry = (list(conv.stride), padding, list(conv.dilation), conv.groups)
        self.codes = torch.ops.onednn.qconv_prepack(codes.contiguous(), self.scales, scale, 0, *self.geometry)
        self.zeros = torch.zeros(len(self.scales), dtype=torch.long)
        self.bias = None if bias is None else bias.detach().float()
        self.scale, self.out, self.zero_out = scale, out or 1.0, zero_out
        self.dtype = torch.bfloat16 if out is None else torch.uint8
        self.after = "relu" if relu else "none"

    def _inputs(self, x: Tensor) -> tuple[Any, ...]:
        if self.edge:
            x = _pad(x, *self.edge)
        return x, self.scale, 0, self.codes, self.scales, self.zeros

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            *self._inputs(x),
            self.bias,
            *self.geometry,
            self.out,
            self.zero_out,
            self.dtype,
            self.after,
            [],
            "",
        )

    def added_to(self, total: Tensor, scale: float, zero: int, x: Tensor) -> Tensor:
        """relu(total + conv(x)); `total`, codes with their own scale and zero, is overwritten."""
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *self._inputs(x), total, self.bias, *self.geometry, self.out, self.zero_out, self.dtype,
            scale, zero, "sum", 1.0, "relu", [], "",
        )  # fmt: skip


class _Block:
    """A residual block: its convolutions, and the shortcut they are added to."""

    def __init__(
        self, block: Any, scale: float, key: str, ranges: dict[str, float], out: float | None
    ) -> None:
        convs = _convolutions(block)
        self.scale, self.inner = scale, []
        given = scale
        for number, conv in enumerate(convs[:-1]):
            inner = ranges[f"{key}.{number}"] / 255
            self.inner.append(_Convolution(conv, given, inner, relu=True))
            given = inner
        self.outer = _Convolution(convs[-1], given, out, relu=True)
        self.shortcut = None
        if block.downsample is not None:
            self.shortcut_scale = ranges[f"{key}.shortcut"] / (255 - ZERO)
            coded = out is not None
            self.shortcut = _Convolution(
                block.downsample[0],
                scale,
                self.shortcut_scale if coded else None,
                relu=False,
                zero_out=ZERO if coded else 0,
            )
        self.codes = out is not None

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.inner:
            y = convolution(y)
        if not self.codes:
            total = self.shortcut(x) if self.shortcut else x.to(torch.bfloat16) * self.scale
            return self.outer.added_to(total, 1.0, 0, y)
        if self.shortcut:
            return self.outer.added_to(self.shortcut(x), self.shortcut_scale, ZERO, y)
        return self.outer.added_to(x, self.scale, 0, y)


def _first(trunk: ResNet, out: float) -> _Convolution:
    """The first convolution, which takes pixels 0..255 as they are: the normalisation moves into it."""
    conv = trunk.conv1
    weight = conv.weight.detach().float() / trunk.std
    bias = (conv.bias.detach().float() if conv.bias is not None else 0) - (weight * trunk.mean).sum(
        dim=(1, 2, 3)
    )
    return _Convolution(conv, 1 / 255, out, relu=True, weight=weight, bias=bias, padding=(0, 0))


def _convolutions(block: Any) -> list[nn.Conv2d]:
    names = ("conv1", "conv2", "conv3")
    return [getattr(block, name) for name in names if hasattr(block, name)]


@torch.inference_mode()
def _ranges(trunk: ResNet, pictures: Iterable[np.ndarray]) -> dict[str, float]:
    """The largest magnitude of each activation over the pictures, in float32."""
    found: dict[str, float] = {}

    def note(key: str, x: Tensor) -> Tensor:
        found[key] = max(found.get(key, 1e-6), float(x.abs().max()))
        return x

    for picture in pictures:
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        x = note("stem", F.relu(trunk.conv1((x - trunk.mean) / trunk.std)))
        x = trunk.maxpool(x)
        for name in trunk.channels:
            for number, block in enumerate(getattr(trunk, name)):
                x = _observe(block, x, f"{name}.{number}", note)
    return found


def _observe(block: Any, x: Tensor, key: str, note: Callable[[str, Tensor], Tensor]) -> Tensor:
    *inner, outer = _convolutions(block)
    y = x
    for number, conv in enumerate(inner):
        y = note(f"{key}.{number}", F.relu(conv(y)))
    shortcut = x if block.downsample is None else note(f"{key}.shortcut", block.downsample(x))
    return note(key, F.relu(outer(y) + shortcut))


def _pad(x: Tensor, mode: str, padding: list[int]) -> Tensor:
    """Repeat or reflect `[1, C, H, W]` beyond its edges: torch's own refuses 8-bit integers."""
    for axis, width in ((2, padding[0]), (3, padding[1])):
        length = x.shape[axis]
        place = torch.arange(-width, length + width)
        if mode == "reflect":
            place = length - 1 - (length - 1 - place.abs()).abs()
        x = x.index_select(axis, place.clamp(0, length - 1))
    return x.contiguous(memory_format=torch.channels_last)


def _max_pool(x: Tensor) -> Tensor:
    """3x3 maximum at stride 2 of `[1, C, H, W]`, H and W even: torch's own refuses 8-bit integers."""
    y = x.permute(0, 2, 3, 1)  # [1, H, W, C]
    rows = torch.maximum(y[:, 0::2], y[:, 1::2])
    rows[:, 1:] = torch.maximum(rows[:, 1:], y[:, 1:-1:2])
    best = torch.maximum(rows[:, :, 0::2], rows[:, :, 1::2])
    best[:, :, 1:] = torch.maximum(best[:, :, 1:], rows[:, :, 1:-1:2])
    return best.permute(0, 3, 1, 2)

"""How a frame becomes an embedding: resize, network (or colour patches), unit vectors, ready for pointers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, Protocol, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pretrain.device import fast_dtype
from pretrain.errors import InputError
from vidtrack.geometry import cells, pad_image, pad_to_stride, working_size
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.int8 import Int8ResNet, fits_int8, has_int8

Precision = Literal["auto", "int8", "bfloat16", "float32"]  # auto: the fastest that this device computes well
PRECISIONS: tuple[Precision, ...] = ("auto", "int8", "bfloat16", "float32")
HALO = 4  # cells that are embedded around a region: near an edge, an embedding lacks what lies beyond
GRAIN = 4  # regions begin and end at multiples of this many cells: a network is slow the first time at a size
WHOLE = 0.85  # of the frame: larger regions are not worth a size of their own
M = TypeVar("M", bound=nn.Module)


class Embedder(Protocol):
    """Turns images into embeddings.

    Attributes:
        device: where it computes.
        stride: working pixels per cell.
        precision: of the numbers it computes with, as a word.
    """

    device: torch.device
    stride: int
    precision: str

    def __call__(self, image: np.ndarray, size: int | None, region: Tensor | None = None) -> Tensor:
        """RGB uint8 `[H, W, 3]` to unit embeddings `[h, w, C]`, computed at short side `size`.

        `region`, bool `[h, w]`, names the cells that are wanted: the others may be zero.
        """


class NetworkEmbedder:
    """Embeddings of a trained (or random) video colorization model.

    Batch norm is folded into the convolutions and tensors are channels-last. Where the processor has
    instructions for it, the trunk runs in 8-bit integers, else the network in bfloat16.

    Args:
        model: in evaluation mode; it is changed in place.
        device: where to compute.
        precision: see `Precision`.

    Attributes:
        dtype: of the embeddings.
        precision: what "auto" became.
    """

    def __init__(self, model: VideoColorizer, device: torch.device, precision: Precision = "auto") -> None:
        self.device, self.stride = device, model.stride
        self.precision: str = _choose(precision, device, model)
        self.dtype = torch.float32 if self.precision == "float32" else torch.bfloat16
        folded = fold_batch_norm(model.eval())
        self.trunks: list[Int8ResNet] = []
        if self.precision == "int8":
            self.trunks = [Int8ResNet(trunk, _pictures()) for trunk in _trunks(folded)]
        folded = folded.to(device, self.dtype)
        self.model: VideoColorizer = folded.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, size: int | None, region: Tensor | None = None) -> Tensor:
        """See `Embedder`; cells near the edge of a region see less around them than in a whole frame."""
        image = pad_image(resize(image, size), self.stride)
        rows, columns = cells(image.shape[0], self.stride), cells(image.shape[1], self.stride)
        part = None if region is None else _part(region)
        if part is None:
            return self._embed(image)
        (top, bottom), (left, right) = part
        crop = image[top * self.stride : bottom * self.stride, left * self.stride : right * self.stride]
        found = self._embed(crop)
        whole = found.new_zeros(rows, columns, found.shape[-1])
        whole[top:bottom, left:right] = found
        return whole

    def _embed(self, image: np.ndarray) -> Tensor:
        """RGB uint8 `[H, W, 3]`, multiples of the stride, to `[h, w, C]`."""
        if not self.trunks:
            x = _as_tensor(np.ascontiguousarray(image)).to(self.device)
            x = x.div(255).to(self.dtype, memory_format=torch.channels_last)
            embedding = self.model.embed(x)  # [1, C, h, w]
        else:
            embedding = self.model.unit(*(trunk(image) for trunk in self.trunks))
        return embedding[0].permute(1, 2, 0).contiguous()  # [C, h, w] -> [h, w, C]


class LabEmbedder:
    """Colour patches without learning: the baseline that a learned embedding must beat.

    A cell's embedding is the unit vector of its 4x4 Lab colours and a constant, which keeps some of the
    brightness that the normalisation would lose.
    """

    stride = VideoColorizer.stride
    precision = "float32"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, size: int | None, region: Tensor | None = None) -> Tensor:
        from kornia.color import rgb_to_lab  # heavy, and only this baseline needs it

        x = pad_to_stride(_as_tensor(resize(image, size)).to(self.device) / 255, self.stride)
        lab = rgb_to_lab(x) / torch.tensor([50.0, 64.0, 64.0], device=self.device).view(-1, 1, 1)
        lab = lab - torch.tensor([1.0, 0.0, 0.0], device=self.device).view(-1, 1, 1)
        patches = F.pixel_unshuffle(F.avg_pool2d(lab, self.stride // 4), 4)  # [1, 48, h, w]
        patches = torch.cat([patches, torch.ones_like(patches[:, :1])], dim=1)
        return F.normalize(patches, dim=1)[0].permute(1, 2, 0).contiguous()


def resize(image: np.ndarray, size: int | None) -> np.ndarray:
    """RGB uint8 `[H, W, 3]` at the working size `[h, w, 3]`, smaller or larger."""
    height, width = working_size(image.shape[0], image.shape[1], size)
    if (height, width) != image.shape[:2]:
        how = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
        image = cv2.resize(image, (width, height), interpolation=how)
    return np.ascontiguousarray(image)


def _as_tensor(image: np.ndarray) -> Tensor:
    """RGB uint8 `[h, w, 3]` to float `[1, 3, h, w]` in 0..255."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def _part(region: Tensor) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First and last cell (exclusive) of the rows and columns to embed; None: the whole frame."""
    spans = []
    for axis in (1, 0):
        inside = region.any(dim=axis).nonzero()
        if not len(inside):
            return None
        length = region.shape[1 - axis]
        begin = max(0, int(inside[0]) - HALO) // GRAIN * GRAIN
        end = min(length, -(-(int(inside[-1]) + 1 + HALO) // GRAIN) * GRAIN)
        spans.append((begin, end))
    (top, bottom), (left, right) = spans
    if (bottom - top) * (right - left) > WHOLE * region.numel():
        return None
    return (top, bottom), (left, right)


def _choose(precision: Precision, device: torch.device, model: VideoColorizer) -> Precision:
    possible = device.type == "cpu" and has_int8() and all(fits_int8(trunk) for trunk in _trunks(model))
    if precision == "auto":
        return "int8" if possible else "bfloat16" if fast_dtype(device) == torch.bfloat16 else "float32"
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}.")
    if precision == "int8" and not possible:
        raise InputError(
            "precision int8 needs a processor with VNNI or AMX instructions, --device cpu, and a "
            "ResNet that takes RGB: use auto."
        )
    return precision


def _trunks(model: VideoColorizer) -> list[Any]:
    return [trunk for trunk in (model.backbone, model.companion) if trunk is not None]


def _pictures() -> list[np.ndarray]:
    """Natural pictures, uint8 `[256, 256, 3]`, from which the ranges of 8-bit activations are taken."""
    from skimage import data

    pictures = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    return [np.ascontiguousarray(picture[-256:, :256]) for picture in pictures]


def fold_batch_norm(module: M) -> M:
    """Fold each batch norm into the convolution before it: `convN` + `bnN`, or neighbours in a Sequential."""
    if not getattr(module, "foldable", True):
        return module
    for child in module.children():
        fold_batch_norm(child)
    names = dict(module.named_children())
    pairs = [(name, "bn" + name.removeprefix("conv")) for name in names if name.startswith("conv")]
    if isinstance(module, nn.Sequential):
        order = list(names)
        pairs = list(pairwise(order))
    for conv_name, norm_name in pairs:
        conv, norm = names.get(conv_name), names.get(norm_name)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
    return module

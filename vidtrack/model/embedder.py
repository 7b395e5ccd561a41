"""How a frame becomes an embedding: resize, network (or colour patches), unit vectors, ready for pointers."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pretrain.device import fast_dtype
from vidtrack.geometry import pad_to_stride, working_size
from vidtrack.model.colorizer import VideoColorizer

STRIDE = VideoColorizer.stride
M = TypeVar("M", bound=nn.Module)


class Embedder(Protocol):
    """Turns images into embeddings."""

    device: torch.device

    def __call__(self, image: np.ndarray, size: int | None) -> Tensor:
        """RGB uint8 `[H, W, 3]` to unit embeddings `[h, w, C]`, computed at short side `size`."""


class NetworkEmbedder:
    """Embeddings of a trained (or random) video colorization model.

    Batch norm is folded into the convolutions, tensors are channels-last, and the network runs in bfloat16
    where the processor has instructions for it.

    Args:
        model: in evaluation mode; it is changed in place.
        device: where to compute.
        dtype: of the network and the embeddings; None chooses.
    """

    def __init__(self, model: VideoColorizer, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.device = device
        self.dtype = dtype or fast_dtype(device)
        folded = fold_batch_norm(model.eval()).to(device, self.dtype)
        self.model: VideoColorizer = folded.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, size: int | None) -> Tensor:
        x = to_tensor(image, size).to(self.device)
        x = pad_to_stride(x.div(255), STRIDE).to(self.dtype, memory_format=torch.channels_last)
        return self.model.embed(x)[0].permute(1, 2, 0).contiguous()  # [C, h, w] -> [h, w, C]


class LabEmbedder:
    """Colour patches without learning: the baseline that a learned embedding must beat.

    A cell's embedding is the unit vector of its 4x4 Lab colours and a constant, which keeps some of the
    brightness that the normalisation would lose.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, size: int | None) -> Tensor:
        from kornia.color import rgb_to_lab  # heavy, and only this baseline needs it

        x = pad_to_stride(to_tensor(image, size).to(self.device) / 255, STRIDE)
        lab = rgb_to_lab(x) / torch.tensor([50.0, 64.0, 64.0], device=self.device).view(-1, 1, 1)
        lab = lab - torch.tensor([1.0, 0.0, 0.0], device=self.device).view(-1, 1, 1)
        patches = F.pixel_unshuffle(F.avg_pool2d(lab, STRIDE // 4), 4)  # [1, 48, h, w]
        patches = torch.cat([patches, torch.ones_like(patches[:, :1])], dim=1)
        return F.normalize(patches, dim=1)[0].permute(1, 2, 0).contiguous()


def to_tensor(image: np.ndarray, size: int | None) -> Tensor:
    """RGB uint8 `[H, W, 3]` to float `[1, 3, h, w]` in 0..255 at the working size."""
    height, width = working_size(image.shape[0], image.shape[1], size)
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def fold_batch_norm(module: M) -> M:
    """Fold each batch norm into the convolution before it: `convN` + `bnN`, or neighbours in a Sequential."""
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

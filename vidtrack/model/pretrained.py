"""Backbone files as trackers: every kind of network that `vidtrack pretrain` writes, in cells of 8 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.backbones import ARCHES, Layer, ResNet, build
from pretrain.catalogue import build_any
from pretrain.errors import InputError
from pretrain.vit import ViT
from vidtrack.model.external import ExternalEmbedder, of_trunks

CELL = 8  # pixels: finer features are averaged, as the trackers' settings count in cells of this size


class Tokens(nn.Module):
    """The patch tokens of a ViT's last block, after the final norm, as a map.

    Position embeddings are interpolated to each frame. The tokens of patches smaller than 8 pixels are
    averaged to cells of about 8; all patches attend to all, so that small ones are slow.

    Args:
        vit: its weights.

    Attributes:
        stride: pixels per cell: the side of a patch, or of several.
        channels: of a token.
    """

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit, self.side = vit, max(1, CELL // vit.patch)
        self.stride = vit.patch * self.side
        self.channels = list(vit.channels.values())[-1]

    def forward(self, images: Tensor) -> Tensor:
        """RGB `[N, 3, H, W]` in 0..1, H and W multiples of the stride, to `[N, C, H/stride, W/stride]`."""
        patches, grid = self.vit.patches(images)
        tokens = self.vit.encode(patches)[:, 1:]  # [N, L, C], without the class token
        return F.avg_pool2d(tokens.transpose(1, 2).unflatten(2, grid), self.side)


def load_backbone(path: Path, meta: dict[str, Any], device: torch.device) -> ExternalEmbedder:
    """The embedder of a backbone file: unit features of a frozen network.

    - ResNets with the standard stem: layer3, its down-sampling turned off (Jabri et al. 2020, arXiv
      2006.14613); with the stem for small images layer4, whose stride is 8 as it is.
    - Two half-networks, as a split-brain autoencoder leaves: the same layers of both, concatenated.
    - ViTs: see `Tokens`.

    Args:
        path: of the file.
        meta: what it says of itself, see `pretrain.weights.read_weights`.
        device: where to compute.

    Raises:
        InputError: the file is damaged, or needs timm, which is not installed.
    """
    try:
        if meta.get("arch") in ARCHES and not meta.get("pair"):
            return of_trunks(build(str(path), *_end(meta.get("stem"))), device=device)
        network = build_any(str(path))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    except Exception as error:  # what a file says of itself may be anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{path} is damaged: what it says of itself makes no backbone ({reason})."
        ) from error
    if isinstance(network, ViT):
        tokens = Tokens(network)
        return ExternalEmbedder(tokens, tokens.stride, tokens.channels, device)
    return of_trunks(at_stride_8(network.light), at_stride_8(network.colour), device=device)


def at_stride_8(trunk: ResNet) -> ResNet:
    """A whole ResNet's weights in one that ends at stride 8."""
    last, stride_one = _end(trunk.stem_kind)
    made = ResNet(trunk.arch, last, stride_one, trunk.input, False, trunk.stem_kind, trunk.share)
    weights = trunk.state_dict()
    made.load_state_dict({key: weights[key] for key in made.state_dict()})
    made.mean.copy_(trunk.mean)
    made.std.copy_(trunk.std)
    return made


def _end(stem: Any) -> tuple[Layer, tuple[str, ...]]:
    """The last layer, and those whose down-sampling is turned off, for features at stride 8."""
    return ("layer4", ()) if stem == "small" else ("layer3", ("layer3",))

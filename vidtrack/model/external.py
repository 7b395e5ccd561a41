"""Any backbone as tracker: frozen networks of timm, random ones, and foreign ResNet checkpoints.

What a user types: `timm:NAME` (timm's own weights), `timm:NAME@PATH` (a local checkpoint), `random:NAME`
(random weights), or the path of a backbone file or a ResNet checkpoint. timm is an optional extra, imported
when it is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.backbones import ARCHES
from pretrain.catalogue import RANDOM
from pretrain.device import fast_dtype
from pretrain.errors import InputError
from pretrain.weights import read_weights
from vidtrack.geometry import pad_image
from vidtrack.model.embedder import PRECISIONS, Precision, fold_batch_norm, resize
from vidtrack.model.trunk import cells_of, last_map, make_trunk, timm_backbone


class ExternalEmbedder:
    """Embeddings of a frozen network: its feature map, as unit vectors.

    Args:
        trunk: see `vidtrack.model.trunk`; it is changed in place.
        device: where to compute.
        precision: of the network and the embeddings; "auto" chooses.

    Attributes:
        stride: pixels per cell.
        channels: of an embedding.
        dtype: of the embeddings.
        precision: what "auto" became.

    Raises:
        InputError: `precision` is "int8", or unknown.
    """

    def __init__(self, trunk: nn.Module, device: torch.device, precision: Precision = "auto") -> None:
        self.device = device
        self.stride, self.channels = cells_of(trunk)
        self.dtype = _dtype(precision, device)
        self.precision = str(self.dtype).removeprefix("torch.")
        frozen = fold_batch_norm(trunk.eval()).requires_grad_(False).to(device, self.dtype)
        self.network: nn.Module = frozen.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, size: int | None, region: Tensor | None = None) -> Tensor:
        """RGB uint8 `[H, W, 3]` to unit embeddings `[h, w, C]`, computed at short side `size`.

        The working size is padded to multiples of the stride on the right and bottom, as everywhere.
        """
        pixels = torch.from_numpy(pad_image(resize(image, size), self.stride)).to(self.device)
        x = pixels.permute(2, 0, 1)[None].float().div(255)
        features = last_map(self.network, x.to(self.dtype))[0]  # [C, h, w]
        return F.normalize(features, dim=0).permute(1, 2, 0).contiguous()


def load_external(spec: str, device: torch.device, precision: Precision = "auto") -> ExternalEmbedder:
    """The embedder that `timm:NAME`, `timm:NAME@PATH` or `random:NAME` means.

    Random ResNets ("resnet18", "resnet34", "resnet50") are the project's own and need no timm; they may have
    the stem for small images ("resnet18-small"), and other weights ("resnet18#2"). For every other network
    see `vidtrack.model.timm_backbone.TimmBackbone`. Random weights are the same each time.

    Args:
        spec: what the user typed.
        device: where to compute.
        precision: see `ExternalEmbedder`.

    Raises:
        InputError: timm is not installed, it knows no such network, the network can't take frames of any
            size, its weights can't be had, or it can't be computed in this precision.
        ValueError: the spec begins with neither "timm:" nor "random:".
    """
    kind, _, rest = spec.partition(":")
    if kind not in ("timm", "random"):
        raise ValueError(f"{spec!r} is neither timm:NAME nor random:NAME")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "timm" or ((found := RANDOM.match(rest)) and found[1] in ARCHES):
            return ExternalEmbedder(make_trunk(spec), device, precision)
        return ExternalEmbedder(timm_backbone(spec, rest), device, precision)


def load_foreign(path: Path | str, device: torch.device, precision: Precision = "auto") -> ExternalEmbedder:
    """The embedder of a backbone file, or of another checkpoint that is no tracker file.

    Of backbone files every kind that `vidtrack pretrain` writes is understood, see
    `vidtrack.model.trunk.make_trunk`. Of others, ResNet-18, -34 and -50 by torchvision's names, wrapped and
    prefixed as `pretrain.weights.read_weights` says: torchvision, MoCo, DINO, solo-learn, VFS, CRW and
    others.

    Raises:
        InputError: no such file, unreadable, not a ResNet, or it can't be computed in this precision.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    foreign = not {"arch", "timm"} & read_weights(path)[1].keys()
    try:
        trunk = make_trunk(str(path))
    except InputError as error:
        if not foreign or "timm:" in str(error):
            raise
        reason = str(error).rstrip(".")
        raise InputError(f"{reason}; another kind of network is --tracker timm:NAME@{path}.") from error
    return ExternalEmbedder(trunk, device, precision)


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "int8":
        raise InputError(
            "precision int8 is only for trackers of vidtrack train: use bfloat16, float32 or auto for "
            "other networks."
        )
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}.")
    return fast_dtype(device) if precision == "auto" else getattr(torch, precision)

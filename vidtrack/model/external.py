"""Any backbone as tracker: frozen networks of timm, random ones, and foreign ResNet checkpoints.

What a user types: `timm:NAME` (timm's own weights), `timm:NAME@PATH` (a local checkpoint), `random:NAME`
(random weights), or the path of a backbone file or a ResNet checkpoint. timm is an optional extra, imported
when it is needed.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.backbones import ARCHES, ResNet, build
from pretrain.catalogue import RANDOM, build_any
from pretrain.device import fast_dtype
from pretrain.errors import InputError
from pretrain.weights import read_weights
from vidtrack.geometry import pad_image
from vidtrack.model.embedder import fold_batch_norm, resize

if TYPE_CHECKING:
    from vidtrack.model.timm_backbone import TimmBackbone

PADDED = re.compile(r"(conv\d)\.1\.weight$")  # CRW's convolutions with a reflection padding before them


class ExternalEmbedder:
    """Embeddings of a frozen network: its feature map, as unit vectors.

    Args:
        network: RGB float `[1, 3, H, W]` in 0..1, H and W multiples of the stride, to `[1, C, H / stride,
            W / stride]`; the normalisation of the input is its own. It is put into evaluation mode.
        stride: pixels per cell.
        channels: C.
        device: where to compute.
        dtype: of the network and the embeddings; None chooses.

    Attributes:
        precision: the name of the dtype.
    """

    def __init__(
        self,
        network: nn.Module,
        stride: int,
        channels: int,
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device, self.stride, self.channels = device, stride, channels
        self.dtype = dtype or fast_dtype(device)
        self.precision = str(self.dtype).removeprefix("torch.")
        frozen = network.eval().requires_grad_(False).to(device, self.dtype)
        self.network: nn.Module = frozen.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, size: int | None, region: Tensor | None = None) -> Tensor:
        """RGB uint8 `[H, W, 3]` to unit embeddings `[h, w, C]`, computed at short side `size`.

        The working size is padded to multiples of the stride on the right and bottom, as everywhere.
        """
        pixels = torch.from_numpy(pad_image(resize(image, size), self.stride)).to(self.device)
        x = pixels.permute(2, 0, 1)[None].float().div(255)
        features = self.network(x.to(self.dtype))[0]  # [C, h, w]
        return F.normalize(features, dim=0).permute(1, 2, 0).contiguous()


class _Trunks(nn.Module):
    """The last feature maps of ResNets, concatenated: `[N, 3, H, W]` in 0..1 to `[N, C, h, w]`."""

    def __init__(self, *trunks: ResNet) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)
        self.last = [trunk.last for trunk in trunks]

    def forward(self, images: Tensor) -> Tensor:
        maps = [trunk(images)[last] for trunk, last in zip(self.trunks, self.last, strict=True)]
        return torch.cat(maps, dim=1)


def load_external(spec: str, device: torch.device) -> ExternalEmbedder:
    """The embedder that `timm:NAME`, `timm:NAME@PATH` or `random:NAME` means.

    Random ResNets ("resnet18", "resnet34", "resnet50") are the project's own and need no timm; they may have
    the stem for small images ("resnet18-small"), and other weights ("resnet18#2"). For every other network
    see `vidtrack.model.timm_backbone.TimmBackbone`. Random weights are the same each time.

    Args:
        spec: what the user typed.
        device: where to compute.

    Raises:
        InputError: timm is not installed, it knows no such network, the network can't take frames of any
            size, or its weights can't be had.
        ValueError: the spec begins with neither "timm:" nor "random:".
    """
    kind, _, rest = spec.partition(":")
    if kind not in ("timm", "random"):
        raise ValueError(f"{spec!r} is neither timm:NAME nor random:NAME")
    if kind == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if (found := RANDOM.match(rest)) and found[1] in ARCHES:
                from vidtrack.model.pretrained import at_stride_8

                return of_trunks(at_stride_8(build_any(spec)), device=device)
            return _of_timm(_timm_backbone(spec, rest), device)
    name, _, path = rest.partition("@")
    if "@" in rest and not Path(path).is_file():
        raise InputError(f"{spec}: there is no checkpoint {path!r}; give timm:NAME or timm:NAME@PATH.")
    return _of_timm(_timm_backbone(spec, name, path=Path(path) if path else None, pretrained=True), device)


def load_foreign(path: Path | str, device: torch.device) -> ExternalEmbedder:
    """The embedder of a checkpoint that is no tracker file: unit layer3 features of a ResNet at stride 8.

    Understood are ResNet-18, -34 and -50 by torchvision's names, wrapped and prefixed as
    `pretrain.weights.read_weights` says: torchvision, MoCo, DINO, solo-learn, VFS and others. The released
    weights of CRW (Jabri et al. 2020, arXiv 2006.14613) have convolutions with reflection padding; they get
    it here too. For backbone files of `vidtrack pretrain` see `vidtrack.model.pretrained`.

    Raises:
        InputError: no such file, unreadable, or not a ResNet.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    try:
        state, meta = read_weights(path)
        if not meta:
            padded = any(PADDED.search(key) for key in state)
            trunk = _padded_resnet(state, path) if padded else build(str(path), "layer3", ("layer3",))
            return of_trunks(trunk, device=device)
    except InputError as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{reason}; another kind of network is --tracker timm:NAME@{path}.") from error
    from vidtrack.model.pretrained import load_backbone

    return load_backbone(path, meta, device)


def of_trunks(*trunks: ResNet, device: torch.device) -> ExternalEmbedder:
    """The embedder of the last feature maps of ResNets, concatenated; their strides are the same."""
    network = fold_batch_norm(_Trunks(*trunks).eval())
    channels = sum(trunk.channels[trunk.last] for trunk in trunks)
    return ExternalEmbedder(network, trunks[0].strides[trunks[0].last], channels, device)


def _of_timm(network: TimmBackbone, device: torch.device) -> ExternalEmbedder:
    return ExternalEmbedder(network, network.stride, network.channels, device)


def _padded_resnet(state: dict[str, Tensor], path: Path) -> ResNet:
    """CRW's ResNet-18: `conv1.1.weight` is the convolution after a reflection padding."""
    renamed = {PADDED.sub(r"\1.weight", key): value for key, value in state.items()}
    trunk = build("resnet18", "layer3", ("layer3",), padding="reflect")
    own = trunk.state_dict()
    kept = {key: value for key, value in renamed.items() if key in own and value.shape == own[key].shape}
    missing = [key for key in own if key not in kept and not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(f"{path} doesn't fit CRW's resnet18: {len(missing)} tensors (first: {missing[0]}).")
    trunk.load_state_dict(kept, strict=False)
    return trunk


def _timm_backbone(spec: str, name: str, **weights: Any) -> TimmBackbone:
    try:
        import timm
    except ImportError as error:
        raise InputError(f"{spec} needs timm: pip install 'vidtrack[timm]'.") from error
    from vidtrack.model.timm_backbone import TimmBackbone

    if not name or not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() names all."
        raise InputError(f"{spec}: timm {timm.__version__} knows no network {name!r}; {hint}")
    return TimmBackbone(name, **weights)

"""Any backbone as the trunk of a tracker: features in cells of about 8 pixels.

A trunk turns RGB images `[N, 3, H, W]` in 0..1, H and W multiples of its stride, into its last feature map;
what it sees of them, and the normalisation, are its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.backbones import ARCHES, Layer, Padding, ResNet, build, set_statistics
from pretrain.catalogue import build_any, file_of
from pretrain.checkpoint import require_finite
from pretrain.errors import InputError
from pretrain.inputs import Input
from pretrain.pair import Pair
from pretrain.timm_networks import require_network, split_path
from pretrain.vit import SIZES, ViT
from pretrain.weights import read_weights

PADDED = re.compile(r"(conv\d)\.1\.weight$")  # CRW's convolutions with a reflection padding before them
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
        input: see `pretrain.inputs.convert`.
    """

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit, self.side = vit, max(1, CELL // vit.patch)
        self.stride = vit.patch * self.side
        self.channels = list(vit.channels.values())[-1]
        self.input = vit.input

    def forward(self, images: Tensor) -> Tensor:
        """RGB `[N, 3, H, W]` in 0..1, H and W multiples of the stride, to `[N, C, H/stride, W/stride]`."""
        patches, grid = self.vit.patches(images)
        tokens = self.vit.encode(patches)[:, 1:]  # [N, L, C], without the class token
        return F.avg_pool2d(tokens.transpose(1, 2).unflatten(2, grid), self.side)

    def description(self) -> dict[str, Any]:
        """What a tracker file says of it."""
        return self.vit.description()


class Halves(nn.Module):
    """The two half-networks of a split-brain autoencoder at stride 8, their last maps concatenated.

    Args:
        pair: its weights.

    Attributes:
        stride: pixels per cell.
        channels: of both together.
        share: of the standard number of channels in both together.
    """

    input = "lab"

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.light, self.colour = at_stride_8(pair.light), at_stride_8(pair.colour)
        self.stride = self.light.strides[self.light.last]
        self.channels = 2 * self.light.channels[self.light.last]
        self.share = 2 * pair.share
        self.described = pair.description()

    def set_padding(self, padding: Padding) -> None:
        """See `ResNet.set_padding`."""
        for half in (self.light, self.colour):
            half.set_padding(padding)

    def forward(self, images: Tensor) -> Tensor:
        """RGB `[N, 3, H, W]` in 0..1 to `[N, C, H/8, W/8]`, lightness first."""
        return torch.cat([last_map(half, images) for half in (self.light, self.colour)], dim=1)

    def description(self) -> dict[str, Any]:
        """What a tracker file says of it."""
        return {**self.described, "padding": self.light.padding}


def last_map(trunk: nn.Module, images: Tensor) -> Tensor:
    """The features of a trunk: `[N, 3, H, W]` to `[N, C, H/stride, W/stride]`."""
    found: Any = trunk(images)
    return found if isinstance(found, Tensor) else found[trunk.last]


def cells_of(trunk: Any) -> tuple[int, int]:
    """Pixels per cell and number of channels of a trunk."""
    if isinstance(trunk, ResNet):
        return trunk.strides[trunk.last], trunk.channels[trunk.last]
    return trunk.stride, trunk.channels


def make_trunk(
    spec: str,
    input: Input = "rgb",
    zero_init: bool = False,
    padding: Padding | None = None,
    share: float = 1.0,
) -> nn.Module:
    """The trunk that a user names.

    - ResNets with the standard stem: layer3, its down-sampling turned off (Jabri et al. 2020, arXiv
      2006.14613); with the stem for small images layer4, whose stride is 8 as it is.
    - Two half-networks, as a split-brain autoencoder leaves: the same layers of both, concatenated.
    - ViTs of `vidtrack pretrain`: see `Tokens`; networks of timm: see `TimmBackbone`.
    - The released weights of CRW (Jabri et al. 2020) have convolutions with reflection padding, and get it
      here too.

    Args:
        spec: "resnet18" and its like (random weights), a backbone file, the folder of a run of
            `vidtrack pretrain`, a foreign checkpoint of a ResNet, `random:NAME`, `timm:NAME` or
            `timm:NAME@PATH`.
        input, zero_init: of a ResNet that begins with random weights, see `ResNet`.
        share: the same; other backbones have their own, which must be this one, unless it is 1.
        padding: see `ResNet`; None: what a file says; of "resnet18" and its like "replicate", so that no cell
            can tell from the edge where it lies; else zeros.

    Raises:
        InputError: there is no such thing, it can't be read, it is no backbone, `padding` is given for a
            network without such edges, or `share` for one with another number of channels.
    """
    if spec in ARCHES:
        own = padding or "replicate"  # no cell shall see where it is
        return ResNet(spec, "layer3", ("layer3",), input, zero_init, share=share, padding=own)
    kind, _, _name = spec.partition(":")
    if kind == "timm" and not Path(spec).exists():
        trunk = timm_trunk(spec)
    elif kind == "random" and not Path(spec).exists():
        trunk = _as_trunk(build_any(spec))
    else:
        trunk = _of_file(Path(spec))
    if share != 1:
        _require_share(trunk, share, spec)
    if padding is not None:
        if not isinstance(trunk, ResNet | Halves):
            raise InputError(f"model.padding={padding} is for ResNets: {spec} is another kind of network.")
        trunk.set_padding(padding)
    return trunk


def _require_share(trunk: nn.Module, share: float, spec: str) -> None:
    if not isinstance(trunk, ResNet | Halves):
        raise InputError(f"model.share={share:g} is for ResNets: {spec} is another kind of network.")
    if trunk.share != share:
        raise InputError(
            f"{spec} has {trunk.share:g} of the usual channels, and the config asks for {share:g}: choose a "
            f"config without model.share, such as track/wide, or pretrain it with backbone.share={share:g}."
        )


def timm_trunk(spec: str) -> nn.Module:
    """The network that `timm:NAME` (timm's own weights) or `timm:NAME@PATH` (a local checkpoint) means.

    Raises:
        InputError: timm is not installed, it knows no such network, or its weights can't be had.
    """
    name, path = split_path(spec, spec.partition(":")[2])
    return timm_backbone(spec, name, path=path, pretrained=True)


def timm_backbone(spec: str, name: str, **weights: Any) -> nn.Module:
    """`TimmBackbone(name, **weights)`; `spec` is what the user typed, for errors.

    Raises:
        InputError: see `timm_trunk`.
    """
    require_network(spec, name)
    from vidtrack.model.timm_backbone import TimmBackbone

    return TimmBackbone(name, **weights)


def rebuild_trunk(described: dict[str, Any]) -> nn.Module:
    """A trunk from what a tracker file says of it, with random weights.

    Args:
        described: see `pretrain.weights.Description`.

    Raises:
        InputError: it needs timm, which is not installed, or what the file says makes no backbone.
        KeyError: the file doesn't say enough.
    """
    if name := described.get("timm"):
        return timm_backbone(f"timm:{name}", name, pretrained=False)
    if described.get("pair"):
        halves = Halves(Pair(described["arch"], described["stem"], described["share"]))
        halves.set_padding(described["padding"])
        return halves
    if described["arch"] in SIZES:
        return Tokens(ViT(described["arch"], described["patch"], described["size"], described["input"]))
    last, stride_one = end_of(described["stem"])
    trunk = ResNet(
        described["arch"],
        last,
        stride_one,
        described["input"],
        stem_kind=described["stem"],
        share=described["share"],
        padding=described["padding"],
    )
    for key in ("mean", "std"):
        set_statistics(trunk, key, described[key], "the file")
    return trunk


def at_stride_8(whole: ResNet) -> ResNet:
    """A whole ResNet's weights in one that ends at stride 8."""
    last, stride_one = end_of(whole.stem_kind)
    made = ResNet(
        whole.arch, last, stride_one, whole.input, False, whole.stem_kind, whole.share, whole.padding
    )
    weights = whole.state_dict()
    made.load_state_dict({key: weights[key] for key in made.state_dict()})
    made.mean.copy_(whole.mean)
    made.std.copy_(whole.std)
    return made


def end_of(stem: Any) -> tuple[Layer, tuple[str, ...]]:
    """The last layer, and those whose down-sampling is turned off, for features at stride 8."""
    return ("layer4", ()) if stem == "small" else ("layer3", ("layer3",))


def _of_file(path: Path) -> nn.Module:
    path = file_of(path)
    state, meta = read_weights(path)
    if not meta and any(PADDED.search(key) for key in state):
        return _padded_resnet(state, path)
    try:
        if not meta or (meta.get("arch") in ARCHES and not meta.get("pair")):
            return build(str(path), *end_of(meta.get("stem")))
        return _as_trunk(build_any(str(path)))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def _padded_resnet(state: dict[str, Tensor], path: Path) -> ResNet:
    """CRW's ResNet-18: `conv1.1.weight` is the convolution after a reflection padding."""
    renamed = {PADDED.sub(r"\1.weight", key): value for key, value in state.items()}
    trunk = build("resnet18", "layer3", ("layer3",), padding="reflect")
    own = trunk.state_dict()
    kept = {key: value for key, value in renamed.items() if key in own and value.shape == own[key].shape}
    missing = [key for key in own if key not in kept and not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(f"{path} doesn't fit CRW's resnet18: {len(missing)} tensors (first: {missing[0]}).")
    require_finite(kept, path)
    trunk.load_state_dict(kept, strict=False)
    return trunk


def _as_trunk(network: Any) -> nn.Module:
    if isinstance(network, ViT):
        return Tokens(network)
    if isinstance(network, Pair):
        return Halves(network)
    if isinstance(network, ResNet):
        return at_stride_8(network)
    return timm_backbone(network.arch, network.arch.removeprefix("timm:"), pretrained=False)

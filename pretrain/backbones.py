"""Backbones: networks that turn images into feature maps, by name or from a file.

A ResNet trunk keeps torchvision's parameter names, so any standard ResNet checkpoint loads unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pretrain.checkpoint import require_finite
from pretrain.errors import InputError
from pretrain.inputs import IMAGENET_MEAN, IMAGENET_STD, ImageInput, Input, channels_of
from pretrain.resnet import BLOCKS, WIDTHS, initialise, layers, set_padding, stem
from pretrain.weights import guess_arch, read_weights, write_weights

__all__ = ["ARCHES", "IMAGENET_MEAN", "IMAGENET_STD", "LAYERS", "Layer", "ResNet", "build", "save_backbone"]

Layer = Literal["layer1", "layer2", "layer3", "layer4"]
Stem = Literal["standard", "small"]
Padding = Literal["zeros", "reflect", "replicate"]
LAYERS: tuple[Layer, ...] = ("layer1", "layer2", "layer3", "layer4")
ARCHES = tuple(BLOCKS)
SHARES = (1 / 32, 4.0)  # two channels to 256 in the first layer: what a file asks for is not just allocated


class ResNet(ImageInput):
    """A ResNet trunk (He et al. 2016, arXiv 1512.03385) that stops at `last` and returns feature maps.

    Args:
        arch: "resnet18", "resnet34" or "resnet50".
        last: the last layer that is built.
        stride_one: layers whose down-sampling is turned off (their weights stay compatible); with
            `("layer3",)` the stride of layer3 is 8 instead of 16.
        input: what it sees of an RGB image: "rgb"; "l", the lightness of Lab; "ab", its colours; "lab".
        zero_init: the last batch norm of each block starts at zero, so that a block starts as identity.
        stem_kind: "small": a 3x3 convolution with stride 1 and no pooling, for images of about 32 pixels, as
            is usual on CIFAR (Chen et al. 2020, arXiv 2002.05709).
        share: of the standard number of channels, such as 0.5; within `SHARES`.
        padding: what convolutions see beyond the edge of the image. Zeros tell a cell how far from the edge
            it is; with the other two, which continue the image, all cells of an even picture are the same.

    Attributes:
        channels: layer name to number of channels.
        strides: layer name to pixels per cell.
    """

    def __init__(
        self,
        arch: str = "resnet18",
        last: Layer = "layer4",
        stride_one: tuple[str, ...] = (),
        input: Input = "rgb",
        zero_init: bool = False,
        stem_kind: Stem = "standard",
        share: float = 1.0,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__(input)
        if arch not in ARCHES:
            raise InputError(f"there is no backbone {arch!r}: choose one of {', '.join(ARCHES)}.")
        if not SHARES[0] <= share <= SHARES[1]:
            raise InputError(f"a {arch} can't have {share:g} of its channels: choose from 1/32 to 4.")
        self.arch, self.last, self.stride_one = arch, last, tuple(stride_one)
        self.stem_kind, self.share = stem_kind, share
        small = stem_kind == "small"
        widths = [round(width * share) for width in WIDTHS]
        self.conv1, self.bn1 = stem(3, widths[0], small), nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        made = layers(arch, widths)
        initialise(self.conv1, made, zero_init)
        if input != "rgb":
            self.conv1 = stem(channels_of(input), widths[0], small)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        stride = 1 if small else 4
        for name, layer in zip(LAYERS[: LAYERS.index(last) + 1], made, strict=False):
            if name in stride_one:
                _keep_resolution(layer)
            elif name != "layer1":
                stride *= 2
            setattr(self, name, layer)
            self.strides[name] = stride
            block: Any = layer[-1]
            self.channels[name] = (block.conv3 if hasattr(block, "conv3") else block.conv2).out_channels
        self.set_padding(padding)

    def set_padding(self, padding: Padding) -> None:
        """Change what convolutions see beyond the edge; the weights stay as they are."""
        self.padding = padding
        set_padding(self, padding)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """RGB images float `[N, 3, H, W]` in 0..1 to `{layer: float [N, C, h, w]}`."""
        return self.features(self.normalised(images))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """As `forward`, from this backbone's own channels, normalised: `[N, C, H, W]`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # [N, 64, H/4, W/4]
        maps = {}
        for name in self.channels:
            x = getattr(self, name)(x)
            maps[name] = x
        return maps

    def description(self) -> dict[str, Any]:
        """What a backbone file says of it."""
        return {
            "arch": self.arch,
            "stem": self.stem_kind,
            "share": self.share,
            "input": self.input,
            "padding": self.padding,
            "strides": self.strides,
            "channels": self.channels,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


def _keep_resolution(layer: nn.Module) -> None:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)


def save_backbone(backbone: Any, path: Path | str) -> None:
    """Write a backbone file: safetensors with everything that `build` needs in its metadata."""
    write_weights(backbone.state_dict(), Path(path), {"backbone": json.dumps(backbone.description())})


def build(
    spec: str,
    last: Layer = "layer4",
    stride_one: tuple[str, ...] = (),
    input: Input = "rgb",
    zero_init: bool = False,
    stem_kind: Stem = "standard",
    padding: Padding | None = None,
) -> ResNet:
    """Build a ResNet from its name (random weights), a backbone file, or a foreign checkpoint.

    Args:
        spec: "resnet18", "resnet34", "resnet50", or the path of a safetensors or PyTorch file.
        last, stride_one, input, zero_init, stem_kind: see `ResNet`. A backbone file knows its own input and
            stem.
        padding: see `ResNet`; None: what the file says, else zeros.

    Raises:
        InputError: unknown name, unreadable file, or weights that don't fit a ResNet.
    """
    if spec in ARCHES:
        return ResNet(spec, last, stride_one, input, zero_init, stem_kind, padding=padding or "zeros")
    path = Path(spec)
    if not path.is_file():
        raise InputError(f"there is no backbone or file {spec!r}: give a path or one of {', '.join(ARCHES)}.")
    state, meta = read_weights(path)
    arch = meta.get("arch") or guess_arch(state, path)
    backbone = ResNet(
        arch,
        last,
        stride_one,
        meta.get("input", input),
        stem_kind=meta.get("stem", stem_kind),
        share=meta.get("share", 1.0),
        padding=padding or meta.get("padding", "zeros"),
    )
    own = backbone.state_dict()
    kept = {key: value for key, value in state.items() if key in own}
    below = ("conv1.", "bn1.", *(f"{name}." for name in LAYERS[: LAYERS.index(last) + 1]))
    extra = [key for key in state if key not in own and key.startswith(below)]
    if extra:
        raise InputError(
            f"{path} is no standard {arch}: it has {len(extra)} tensors more (first: {extra[0]}); another "
            f"kind of network is timm:NAME@{path}, such as timm:resnet101@{path}."
        )
    missing = [key for key in own if key not in kept and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in kept.items() if value.shape != own[key].shape]
    if missing or wrong:
        raise InputError(
            f"{path} doesn't fit {arch}: {len(missing)} tensors missing, {len(wrong)} of another shape "
            f"(first: {(missing + wrong)[0]}); give a checkpoint of a standard {arch}."
        )
    require_finite(kept, path)
    backbone.load_state_dict(kept, strict=False)
    for name in ("mean", "std"):
        if name in meta:
            set_statistics(backbone, name, meta[name], str(path))
    return backbone


def set_statistics(backbone: ImageInput, name: str, values: list[float], where: str) -> None:
    """Give a backbone the normalisation that a file says.

    Args:
        backbone: whose buffer is changed.
        name: "mean" or "std".
        values: one for each channel.
        where: what the user calls the file, for errors.

    Raises:
        InputError: as many values as channels are needed.
    """
    buffer: Tensor = getattr(backbone, name)
    if len(values) != len(buffer):
        raise InputError(
            f"{where} is damaged: its {name} has {len(values)} values for {len(buffer)} channels."
        )
    buffer.copy_(torch.tensor(values).view(-1, 1, 1))
